using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Embeddings;

/// <summary>The vectors that a model makes of texts.</summary>
internal static class TextEmbeddings
{
    // As torch.nn.functional.normalize.
    private static readonly Scalar s_shortest = 1e-12;

    /// <summary>The vectors, [texts, hidden], float32, of length 1, with a graph if gradients are on; in the caller's dispose scope.</summary>
    /// <param name="model">The model, whose attention looks both ways if its stack says so.</param>
    /// <param name="texts">The tokens of each text.</param>
    /// <param name="pooling">Which hidden states become the vector.</param>
    /// <param name="adapter">Name of the adapter of all texts, for a model whose adapters are active by row; null for the model as it is.</param>
    internal static Tensor Of(CausalLanguageModel model, IReadOnlyList<int[]> texts, EmbeddingPooling pooling, string? adapter = null)
    {
        using var scope = NewDisposeScope();
        var batch = TokenBatch.Of([.. texts.Select(static ids => new TokenRow(ids, ids, "text"))], padId: 0, model.Device);
        var input = model.Stack.IsBidirectional ? BothWays(batch) : batch.Input;
        var hidden = model.call(adapter is null ? input : input with { Adapters = [.. texts.Select(_ => adapter)] }).to(float32);
        var pooled = pooling == EmbeddingPooling.Last ? Last(hidden, texts) : Mean(hidden, batch, texts);
        return Normal(pooled).MoveToOuterDisposeScope();
    }

    /// <summary>Vectors of length 1.</summary>
    internal static Tensor Normal(Tensor vectors) => vectors.div(vectors.norm(1, keepdim: true).clamp_min(s_shortest));

    // Padding is hidden by the documents, since no causal mask hides it.
    private static ModelInput BothWays(TokenBatch batch) => batch.Input with
    {
        IsBidirectional = true,
        Documents = batch.RealTokens is { } real ? real.to(int64) : ones(batch.Input.InputIds.shape, int64, batch.Input.InputIds.device),
    };

    private static Tensor Last(Tensor hidden, IReadOnlyList<int[]> texts)
    {
        var last = texts.Select((ids, i) => (i * hidden.size(1)) + ids.Length - 1).ToArray();
        return hidden.view(-1, hidden.size(2)).index_select(0, tensor(last, device: hidden.device));
    }

    private static Tensor Mean(Tensor hidden, TokenBatch batch, IReadOnlyList<int[]> texts)
    {
        var lengths = tensor(texts.Select(static ids => (float)ids.Length).ToArray(), device: hidden.device).unsqueeze(1);
        var kept = batch.RealTokens is { } real ? hidden.mul(real.to(float32).unsqueeze(2)) : hidden;
        return kept.sum([1L]).div(lengths);
    }
}
