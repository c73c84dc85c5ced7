using System.Runtime.InteropServices;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Embeddings;

/// <summary>Turns texts into vectors of length 1, a batch at a time, without gradients.</summary>
/// <param name="model">The model, with its adapter.</param>
/// <param name="settings">How it makes vectors.</param>
/// <param name="tokenizer">Tokenizes the texts.</param>
/// <param name="batchSize">Number of texts that the model reads together.</param>
internal sealed class TextEmbedder(CausalLanguageModel model, EmbeddingSettings settings, RowTokenizer tokenizer, int batchSize = 16)
{
    // Memory grows with the tokens that are read together, padding with them.
    private const int TokensAtOnce = 2048;

    /// <summary>The tokens of a query, with its prompt.</summary>
    /// <param name="text">The text.</param>
    public int[] EncodeQuery(string text) => Cut(tokenizer.Whole(settings.QueryPrompt + text, "query"));

    /// <summary>The tokens of a document, with its prompt.</summary>
    /// <param name="text">The text.</param>
    public int[] EncodeDocument(string text) => Cut(tokenizer.Whole(settings.DocumentPrompt + text, "document"));

    /// <summary>The vectors of texts.</summary>
    /// <param name="texts">The tokens of each; none may be empty.</param>
    /// <exception cref="InvalidDataException">A text is empty, or the model does not know one of its tokens.</exception>
    public IReadOnlyList<float[]> Embed(IReadOnlyList<int[]> texts) => Embed(model, texts, settings.Pooling, adapter: null, batchSize);

    /// <summary>The vectors of texts.</summary>
    /// <param name="model">The model.</param>
    /// <param name="texts">The tokens of each; none may be empty.</param>
    /// <param name="pooling">Which hidden states become the vector.</param>
    /// <param name="adapter">Name of the adapter of all texts, for a model whose adapters are active by row; null for the model as it is.</param>
    /// <param name="batchSize">Number of texts that the model reads together.</param>
    /// <exception cref="InvalidDataException">A text is empty, or the model does not know one of its tokens.</exception>
    internal static IReadOnlyList<float[]> Embed(CausalLanguageModel model, IReadOnlyList<int[]> texts, EmbeddingPooling pooling, string? adapter, int batchSize)
    {
        ArgumentNullException.ThrowIfNull(texts);
        TextCheck.Require(texts, model.VocabularySize);
        using var nothing = no_grad();
        var vectors = new float[texts.Count][];

        foreach (var batch in Batches(texts, batchSize))
        {
            using var scope = NewDisposeScope();
            var made = batch is [var alone] && TextParts.Suit(model, texts[alone].Length, adapter)
                ? TextParts.Of(model, texts[alone], pooling, adapter)
                : TextEmbeddings.Of(model, [.. batch.Select(i => texts[i])], pooling, adapter);
            made = made.cpu().contiguous();
            var (flat, width) = (MemoryMarshal.Cast<byte, float>(made.bytes).ToArray(), (int)made.size(1));
            for (var i = 0; i < batch.Count; i++)
            {
                vectors[batch[i]] = flat[(i * width)..((i + 1) * width)];
            }
        }

        return vectors;
    }

    // Texts of similar length are read together, with little padding.
    private static IEnumerable<List<int>> Batches(IReadOnlyList<int[]> texts, int most)
    {
        var batch = new List<int>();
        foreach (var i in Enumerable.Range(0, texts.Count).OrderBy(i => texts[i].Length))
        {
            if (batch.Count == most || (batch.Count > 0 && (batch.Count + 1) * texts[i].Length > TokensAtOnce))
            {
                yield return batch;
                batch = [];
            }

            batch.Add(i);
        }

        if (batch.Count > 0)
        {
            yield return batch;
        }
    }

    private int[] Cut(int[] ids) => settings.MaxLength is { } most && ids.Length > most ? ids[..most] : ids;
}
