using System.Text;
using LLama.Native;

namespace OpenWeights.LlamaCpp;

/// <summary>A GGUF file loaded in llama.cpp: on the CPU, with float32 keys and values.</summary>
public sealed class LlamaModel : IDisposable
{
    private const int BatchTokens = 256;
    private readonly SafeLlamaModelHandle _model;
    private readonly LoraAdapter? _lora;
    private readonly int _threads;
    private SafeLLamaContextHandle? _context;
    private int _contextTokens;

    /// <summary>Loads a file.</summary>
    /// <param name="path">The model's file.</param>
    /// <param name="lora">A LoRA file to apply, or null.</param>
    /// <param name="threads">Number of threads.</param>
    /// <exception cref="InvalidDataException">llama.cpp cannot read a file; the message says why.</exception>
    public LlamaModel(string path, string? lora = null, int threads = 1)
    {
        _threads = threads;
        var settings = LLamaModelParams.Default();
        (settings.n_gpu_layers, settings.load_mode) = (0, LLamaLoadMode.MemoryMap);
        _ = LlamaLibrary.TakeError();
        try
        {
            _model = SafeLlamaModelHandle.LoadFromFile(path, settings);
            _lora = lora is null ? null : _model.LoadLoraFromFile(lora);
        }
        catch (Exception e) when (e is LLama.Exceptions.RuntimeError or InvalidOperationException)
        {
            _model?.Dispose();
            throw new InvalidDataException($"llama.cpp cannot read {lora ?? path}: {LlamaLibrary.TakeError() ?? e.Message}", e);
        }

        Tokenizer = LlamaTokenizer.Text(_model, "tokenizer.ggml.model") is null or "no_vocab" or "none" ? null : new LlamaTokenizer(_model);
    }

    /// <summary>The file's own tokenizer with its chat template; null where it has none.</summary>
    public LlamaTokenizer? Tokenizer { get; }

    /// <summary>llama.cpp's end tokens: those named in the file, and others recognized by their text.</summary>
    public IReadOnlyList<int> EndTokens => [.. Enumerable.Range(0, _model.Vocab.Count).Where(id => ((LLamaToken)id).IsEndOfGeneration(_model.Vocab))];

    /// <summary>The logits of the next token after each of the tokens.</summary>
    /// <param name="ids">The tokens.</param>
    /// <returns>One row per token, each of vocabulary size.</returns>
    /// <exception cref="InvalidOperationException">llama.cpp cannot compute them.</exception>
    public float[][] Logits(ReadOnlySpan<int> ids)
    {
        var rows = new float[ids.Length][];
        Read(Context(ids.Length), ids, static _ => true, (i, logits) => rows[i] = logits.ToArray());
        return rows;
    }

    /// <summary>Sum of the cross entropy of tokens, in nats.</summary>
    /// <param name="ids">The tokens of a text.</param>
    /// <param name="labels">The token id at each scored position, and a negative number elsewhere; the first position is never
    /// scored.</param>
    /// <exception cref="InvalidOperationException">llama.cpp cannot compute it.</exception>
    public double CrossEntropy(int[] ids, int[] labels)
    {
        ArgumentNullException.ThrowIfNull(ids);
        ArgumentNullException.ThrowIfNull(labels);
        var sum = 0.0;
        Read(Context(ids.Length), ids, i => i + 1 < labels.Length && labels[i + 1] >= 0, (i, logits) => sum += CrossEntropy(logits, labels[i + 1]));
        return sum;
    }

    /// <summary>Greedy decoding, including the end token.</summary>
    /// <param name="ids">The prompt's tokens, at least one.</param>
    /// <param name="count">Maximum number of tokens.</param>
    /// <param name="stop">Cancels between tokens.</param>
    /// <exception cref="InvalidOperationException">llama.cpp cannot compute them.</exception>
    public IReadOnlyList<int> Greedy(ReadOnlySpan<int> ids, int count, CancellationToken stop = default)
    {
        var (context, last, next) = (Context(ids.Length + count), ids.Length - 1, 0);
        Read(context, ids, i => i == last, (_, logits) => next = Most(logits));
        var made = new List<int>();
        while (made.Count < count)
        {
            stop.ThrowIfCancellationRequested();
            made.Add(next);
            if (made.Count == count || ((LLamaToken)next).IsEndOfGeneration(_model.Vocab))
            {
                break;
            }

            Decode(context, [next], ids.Length + made.Count - 1, static _ => true);
            next = Most(context.GetLogitsIth(0));
        }

        return made;
    }

    /// <summary>Tokenizes a text; special tokens in it are recognized, none are added.</summary>
    /// <param name="text">The text.</param>
    public IReadOnlyList<int> Tokens(string text) => [.. _model.Tokenize(text, addBos: false, special: true, Encoding.UTF8).Select(static t => (int)t)];

    /// <inheritdoc/>
    public void Dispose()
    {
        _context?.Dispose();
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

    private static double CrossEntropy(ReadOnlySpan<float> logits, int label)
    {
        double largest = logits[Most(logits)];
        var sum = 0.0;
        foreach (var logit in logits)
        {
            sum += Math.Exp(logit - largest);
        }

        return largest + Math.Log(sum) - logits[label];
    }

    // An empty context of sufficient size; the previous one is reused if it is large enough.
    private SafeLLamaContextHandle Context(int tokens)
    {
        if (_context is not null && tokens <= _contextTokens)
        {
            _context.MemoryClear();
            return _context;
        }

        _context?.Dispose();
        _context = null;
        var settings = LLamaContextParams.Default();
        _contextTokens = (tokens + BatchTokens - 1) / BatchTokens * BatchTokens;
        (settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_seq_max) = ((uint)_contextTokens, BatchTokens, BatchTokens, 1);
        (settings.n_threads, settings.n_threads_batch) = (_threads, _threads);
        (settings.type_k, settings.type_v) = (GGMLType.GGML_TYPE_F32, GGMLType.GGML_TYPE_F32);
        settings.llama_flash_attn_type = LLamaFlashAttentionType.LLAMA_FLASH_ATTENTION_TYPE_DISABLED;
        try
        {
            _context = SafeLLamaContextHandle.Create(_model, settings);
        }
        catch (LLama.Exceptions.RuntimeError e)
        {
            throw new InvalidOperationException($"llama.cpp cannot allocate a context of {_contextTokens} tokens: {LlamaLibrary.TakeError() ?? e.Message}", e);
        }

        if (_lora is not null)
        {
            _context.SetLoraAdapters(new (LoraAdapter, float)[] { (_lora, 1f) });
        }

        return _context;
    }

    private delegate void LogitsAt(int place, ReadOnlySpan<float> logits);

    // In batches, because each requested position has as many logits as there are tokens.
    private static void Read(SafeLLamaContextHandle context, ReadOnlySpan<int> ids, Func<int, bool> wants, LogitsAt take)
    {
        for (var start = 0; start < ids.Length; start += BatchTokens)
        {
            var part = ids[start..Math.Min(start + BatchTokens, ids.Length)];
            Decode(context, part, start, wants);
            for (var i = 0; i < part.Length; i++)
            {
                if (wants(start + i))
                {
                    take(start + i, context.GetLogitsIth(i));
                }
            }
        }
    }

    private static void Decode(SafeLLamaContextHandle context, ReadOnlySpan<int> ids, int start, Func<int, bool> wants)
    {
        var batch = new LLamaBatch();
        for (var i = 0; i < ids.Length; i++)
        {
            _ = batch.Add(ids[i], start + i, LLamaSeqId.Zero, logits: wants(start + i));
        }

        var result = context.Decode(batch);
        if (result != DecodeResult.Ok)
        {
            throw new InvalidOperationException($"llama.cpp cannot compute {ids.Length} tokens from position {start}: {LlamaLibrary.TakeError() ?? result.ToString()}.");
        }
    }
}
