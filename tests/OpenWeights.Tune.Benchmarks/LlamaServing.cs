using System.Diagnostics;
using LLama.Native;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>
/// What a server over llama.cpp's library could reach without HTTP: chats of several clients in one batch, of which each asks again as soon as it has its
/// answer, greedy, with the common beginning of its chats kept, prompts read along with the other clients' next tokens.
/// </summary>
/// <param name="Clients">Number of clients.</param>
/// <param name="TokensPerSecond">Tokens per second of all clients.</param>
/// <param name="FirstTokenMedian">Median of the seconds to the first token.</param>
/// <param name="AnswerMedian">Median of the seconds of an answer.</param>
internal sealed record LlamaServing(int Clients, double TokensPerSecond, double FirstTokenMedian, double AnswerMedian)
{
    private const int BatchTokens = 512;

    // Tokens that all chats begin with, and of a question: those of `owt bench serve` with SmolLM2.
    private const int Shared = 32;
    private const int Own = 16;

    /// <summary>Measures a file.</summary>
    /// <param name="path">The model's GGUF file, of at least 256 tokens.</param>
    /// <param name="clients">Number of clients.</param>
    /// <param name="requests">Number of chats of each client.</param>
    /// <param name="made">Tokens of an answer.</param>
    /// <param name="threads">Threads to compute with.</param>
    /// <exception cref="InvalidOperationException">llama.cpp cannot compute with it.</exception>
    internal static LlamaServing Measure(string path, int clients, int requests, int made, int threads)
    {
        var load = LLamaModelParams.Default();
        (load.n_gpu_layers, load.load_mode) = (0, LLamaLoadMode.None);
        using var model = SafeLlamaModelHandle.LoadFromFile(path, load);
        var settings = LLamaContextParams.Default();
        settings.n_ctx = (uint)(clients * (Shared + Own + made + 8));
        (settings.n_batch, settings.n_seq_max) = (BatchTokens, (uint)clients);
        (settings.n_threads, settings.n_threads_batch) = (threads, threads);
        using var context = SafeLLamaContextHandle.Create(model, settings);
        List<Client> all = [.. Enumerable.Range(0, clients).Select(i => new Client((LLamaSeqId)i, requests + 1, made))];

        // The first chat of each reads what all begin with, and is not counted.
        while (all.TrueForAll(static c => c.Left > 0) && all.Exists(c => c.Left > requests))
        {
            Step(context, [.. all.Where(c => c.Left > requests)]);
        }

        all.ForEach(static c => c.Forget());
        var watch = Stopwatch.StartNew();
        while (all.Exists(static c => c.Left > 0))
        {
            Step(context, [.. all.Where(static c => c.Left > 0)]);
        }

        return new LlamaServing(clients, clients * requests * made / watch.Elapsed.TotalSeconds, Median(all.SelectMany(static c => c.FirstTokens)), Median(all.SelectMany(static c => c.Answers)));
    }

    // A part of the prompts, and the next token of each other client.
    private static void Step(SafeLLamaContextHandle context, List<Client> clients)
    {
        var batch = new LLamaBatch();
        List<(Client Client, int Index)> ends = [];
        foreach (var client in clients)
        {
            if (batch.TokenCount + client.Pending.Count > BatchTokens)
            {
                continue;
            }

            if (client.Position <= Shared)
            {
                context.MemorySequenceRemove(client.Sequence, client.Position, -1);
            }

            for (var i = 0; i < client.Pending.Count; i++)
            {
                _ = batch.Add(client.Pending[i], client.Position + i, client.Sequence, logits: i == client.Pending.Count - 1);
            }

            ends.Add((client, batch.TokenCount - 1));
        }

        if (context.Decode(batch) is var result and not DecodeResult.Ok)
        {
            throw new InvalidOperationException($"llama.cpp cannot compute a batch of {batch.TokenCount} tokens: {result}.");
        }

        foreach (var (client, index) in ends)
        {
            client.Take(LlamaTimings.Most(context.GetLogitsIth(index)));
        }
    }

    private static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return sorted[sorted.Count / 2];
    }

    private sealed class Client(LLamaSeqId sequence, int requests, int made)
    {
        private readonly Stopwatch _watch = Stopwatch.StartNew();
        private int _made;

        internal LLamaSeqId Sequence => sequence;

        internal int Left { get; private set; } = requests;

        internal int Position { get; private set; }

        internal List<int> Pending { get; private set; } = Tokens(0, Shared + Own, (int)sequence);

        internal List<double> FirstTokens { get; } = [];

        internal List<double> Answers { get; } = [];

        internal void Take(int token)
        {
            (Position, Pending) = (Position + Pending.Count, [token]);
            if (++_made == 1)
            {
                FirstTokens.Add(_watch.Elapsed.TotalSeconds);
            }

            if (_made < made)
            {
                return;
            }

            Answers.Add(_watch.Elapsed.TotalSeconds);
            (_made, Position, Pending) = (0, Shared, Tokens(Shared, Own, (int)sequence + Left));
            Left--;
            _watch.Restart();
        }

        internal void Forget()
        {
            FirstTokens.Clear();
            Answers.Clear();
            _watch.Restart();
        }

        private static List<int> Tokens(int from, int count, int seed) => [.. Enumerable.Range(from, count).Select(i => 3 + ((i < Shared ? i * 104729 : (seed * 7919) + (i * 104729)) % 250))];
    }
}
