using System.Text;
using LLama.Native;

namespace OpenWeights.LlamaCpp;

/// <summary>A GGUF file as llama.cpp computes with it: on the CPU, in one thread (the models are small), with keys and values in float32.</summary>
public sealed class LlamaModel : IDisposable
{
    private const int MostTokens = 256;
    private readonly SafeLlamaModelHandle _model;
    private readonly LoraAdapter? _lora;

    /// <summary>Loads a file.</summary>
    /// <param name="path">The model's file.</param>
    /// <param name="lora">A LoRA file to compute with, or null.</param>
    /// <exception cref="InvalidDataException">llama.cpp cannot read a file.</exception>
    public LlamaModel(string path, string? lora = null)
    {
        var settings = LLamaModelParams.Default();
        (settings.n_gpu_layers, settings.load_mode) = (0, LLamaLoadMode.None);
        try
        {
            _model = SafeLlamaModelHandle.LoadFromFile(path, settings);
            _lora = lora is null ? null : _model.LoadLoraFromFile(lora);
        }
        catch (Exception e) when (e is LLama.Exceptions.RuntimeError or LLama.Exceptions.LoadWeightsFailedException)
        {
            _model?.Dispose();
            throw new InvalidDataException($"llama.cpp cannot read {lora ?? path}: {e.Message}", e);
        }
    }

    /// <summary>The logits of the next token after each of the tokens.</summary>
    /// <param name="ids">The tokens, at most 256.</param>
    /// <returns>As many rows as tokens, each as wide as the vocabulary.</returns>
    /// <exception cref="InvalidOperationException">llama.cpp cannot compute them.</exception>
    public float[][] Logits(ReadOnlySpan<int> ids)
    {
        using var context = Context();
        Decode(context, ids, 0);
        var rows = new float[ids.Length][];
        for (var i = 0; i < rows.Length; i++)
        {
            rows[i] = context.GetLogitsIth(i).ToArray();
        }

        return rows;
    }

    /// <summary>The most likely tokens, one after another, an end of the text included.</summary>
    /// <param name="ids">The prompt's tokens.</param>
    /// <param name="count">How many there are at most; with the prompt's at most 256.</param>
    /// <exception cref="InvalidOperationException">llama.cpp cannot compute them.</exception>
    public IReadOnlyList<int> Greedy(ReadOnlySpan<int> ids, int count)
    {
        using var context = Context();
        Decode(context, ids, 0);
        var made = new List<int>();
        for (var last = ids.Length - 1; made.Count < count; last = 0)
        {
            var next = Most(context.GetLogitsIth(last));
            made.Add(next);
            if (((LLamaToken)next).IsEndOfGeneration(_model.Vocab))
            {
                break;
            }

            Decode(context, [next], ids.Length + made.Count - 1);
        }

        return made;
    }

    /// <summary>A text's tokens, special tokens in it taken as such, none added.</summary>
    /// <param name="text">The text.</param>
    public IReadOnlyList<int> Tokens(string text) => [.. _model.Tokenize(text, addBos: false, special: true, Encoding.UTF8).Select(static t => (int)t)];

    /// <inheritdoc/>
    public void Dispose()
    {
        _lora?.Unload();
        _model.Dispose();
    }

    /// <summary>The index of the largest value.</summary>
    /// <param name="values">The values, at least one.</param>
    internal static int Most(ReadOnlySpan<float> values)
    {
        var most = 0;
        for (var i = 1; i < values.Length; i++)
        {
            most = values[i] > values[most] ? i : most;
        }

        return most;
    }

    private SafeLLamaContextHandle Context()
    {
        var settings = LLamaContextParams.Default();
        (settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_seq_max) = (MostTokens, MostTokens, MostTokens, 1);
        (settings.n_threads, settings.n_threads_batch) = (1, 1);
        (settings.type_k, settings.type_v) = (GGMLType.GGML_TYPE_F32, GGMLType.GGML_TYPE_F32);
        settings.llama_flash_attn_type = LLamaFlashAttentionType.LLAMA_FLASH_ATTENTION_TYPE_DISABLED;
        var context = SafeLLamaContextHandle.Create(_model, settings);
        if (_lora is not null)
        {
            context.SetLoraAdapters(new (LoraAdapter, float)[] { (_lora, 1f) });
        }

        return context;
    }

    private static void Decode(SafeLLamaContextHandle context, ReadOnlySpan<int> ids, int start)
    {
        var batch = new LLamaBatch();
        for (var i = 0; i < ids.Length; i++)
        {
            _ = batch.Add(ids[i], start + i, LLamaSeqId.Zero, logits: true);
        }

        var result = context.Decode(batch);
        if (result != DecodeResult.Ok)
        {
            throw new InvalidOperationException($"llama.cpp cannot compute {ids.Length} tokens from place {start}: {result}.");
        }
    }
}
