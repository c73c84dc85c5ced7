using System.Diagnostics;
using LLama.Native;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>Speed of llama.cpp's prompt processing and decoding, measured as in <c>owt bench generate</c>.</summary>
/// <param name="BatchSize">Number of texts.</param>
/// <param name="PromptTokensPerSecond">Prompt tokens per second, until each text has its first token.</param>
/// <param name="DecodeTokensPerSecond">Decoded tokens per second.</param>
internal sealed record LlamaTimings(int BatchSize, double PromptTokensPerSecond, double DecodeTokensPerSecond)
{
    private const int BatchTokens = 512;

    /// <summary>Measures a file; medians of three rounds after one that is not counted.</summary>
    /// <param name="path">The model's GGUF file, of at least 256 tokens.</param>
    /// <param name="prompt">A prompt's tokens.</param>
    /// <param name="made">Tokens that each text gets, at least two.</param>
    /// <param name="threads">Threads to compute with.</param>
    /// <param name="batch">Texts side by side.</param>
    /// <exception cref="InvalidOperationException">llama.cpp cannot compute with it.</exception>
    internal static LlamaTimings Measure(string path, int prompt, int made, int threads, int batch)
    {
        var load = LLamaModelParams.Default();
        (load.n_gpu_layers, load.load_mode) = (0, LLamaLoadMode.None);
        using var model = SafeLlamaModelHandle.LoadFromFile(path, load);
        var settings = LLamaContextParams.Default();
        settings.n_ctx = (uint)(batch * (prompt + made + 8));
        (settings.n_batch, settings.n_seq_max) = ((uint)Math.Max(BatchTokens, batch), (uint)batch);
        (settings.n_threads, settings.n_threads_batch) = (threads, threads);
        settings.llama_flash_attn_type = LLamaFlashAttentionType.LLAMA_FLASH_ATTENTION_TYPE_DISABLED;
        using var context = SafeLLamaContextHandle.Create(model, settings);
        var (reading, steps) = (new List<double>(), new List<double>());
        for (var round = 0; round < 4; round++)
        {
            context.MemoryClear();
            var times = Round(context, prompt, made, batch);
            if (round > 0)
            {
                reading.Add(times[0]);
                steps.AddRange(times.Skip(1).Zip(times, static (later, earlier) => later - earlier));
            }
        }

        return new LlamaTimings(batch, batch * prompt / Median(reading), batch / Median(steps));
    }

    // The seconds until all texts have each of their tokens.
    private static List<double> Round(SafeLLamaContextHandle context, int prompt, int made, int texts)
    {
        var watch = Stopwatch.StartNew();
        var times = new List<double>();
        var next = new int[texts];
        Read(context, prompt, next);
        times.Add(watch.Elapsed.TotalSeconds);
        for (var step = 1; step < made; step++)
        {
            var batch = new LLamaBatch();
            for (var text = 0; text < texts; text++)
            {
                _ = batch.Add(next[text], prompt + step - 1, (LLamaSeqId)text, logits: true);
            }

            Decode(context, batch);
            for (var text = 0; text < texts; text++)
            {
                next[text] = Most(context.GetLogitsIth(text));
            }

            times.Add(watch.Elapsed.TotalSeconds);
        }

        return times;
    }

    // As many tokens at once as a batch holds, over the ends of texts.
    private static void Read(SafeLLamaContextHandle context, int prompt, int[] next)
    {
        var batch = new LLamaBatch();
        var ends = new List<(int Index, int Text)>();
        for (var text = 0; text < next.Length; text++)
        {
            for (var i = 0; i < prompt; i++)
            {
                var index = batch.TokenCount;
                _ = batch.Add(3 + (((text * 7919) + (i * 104729)) % 250), i, (LLamaSeqId)text, logits: i == prompt - 1);
                if (i == prompt - 1)
                {
                    ends.Add((index, text));
                }

                if (batch.TokenCount == BatchTokens || (text == next.Length - 1 && i == prompt - 1))
                {
                    Decode(context, batch);
                    ends.ForEach(e => next[e.Text] = Most(context.GetLogitsIth(e.Index)));
                    ends.Clear();
                    batch.Clear();
                }
            }
        }
    }

    private static void Decode(SafeLLamaContextHandle context, LLamaBatch batch)
    {
        if (context.Decode(batch) is var result and not DecodeResult.Ok)
        {
            throw new InvalidOperationException($"llama.cpp cannot compute a batch of {batch.TokenCount} tokens: {result}.");
        }
    }

    /// <summary>The token with the largest logit.</summary>
    internal static int Most(ReadOnlySpan<float> logits)
    {
        var most = 0;
        for (var i = 1; i < logits.Length; i++)
        {
            most = logits[i] > logits[most] ? i : most;
        }

        return most;
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
