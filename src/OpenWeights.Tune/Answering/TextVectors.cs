using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives.Embeddings;

namespace OpenWeights.Tune.Answering;

/// <summary>Vectors of texts, computed between the engine's steps, a batch at a time so that answers go on meanwhile.</summary>
internal sealed class TextVectors
{
    private const int BatchSize = 16;

    private readonly LoadedModel _loaded;
    private readonly TextEngine _engine;

    internal TextVectors(LoadedModel loaded, TextEngine engine)
    {
        (_loaded, _engine) = (loaded, engine);

        // A model that was not made for embeddings gives its most useful ones as the mean over a text.
        Settings = loaded.Embedding ?? new EmbeddingSettings { Pooling = EmbeddingPooling.Mean };
    }

    internal EmbeddingSettings Settings { get; }

    internal int[] Encode(string text, Tokenizer tokenizer, bool isQuery)
    {
        var whole = (isQuery ? Settings.QueryPrompt : Settings.DocumentPrompt) + text;
        var ids = whole.Length == 0 ? [] : new RowTokenizer(tokenizer, "all").Whole(whole, "input");
        return Settings.MaxLength is { } most && ids.Length > most ? ids[..most] : ids;
    }

    internal async Task<IReadOnlyList<float[]>> Of(IReadOnlyList<int[]> texts, string? adapter, CancellationToken stop)
    {
        var vectors = new List<float[]>(texts.Count);
        foreach (var batch in texts.Chunk(BatchSize))
        {
            vectors.AddRange(await _engine.RunAsync(() => TextEmbedder.Embed(_loaded.Model, batch, Settings.Pooling, adapter, BatchSize), stop).ConfigureAwait(false));
        }

        return vectors;
    }
}
