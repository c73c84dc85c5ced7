using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>An adapter that changes the output of a linear layer without changing its weight.</summary>
internal interface ILinearAdapter
{
    /// <summary>Adds the adapter's part to the layer's output.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="input">The layer's input, [..., in].</param>
    /// <param name="output">The layer's own output, [..., out].</param>
    Tensor Apply(LinearLayer layer, Tensor input, Tensor output);

    /// <summary>The whole output, if the adapter computes it without the layer's own; otherwise null.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="input">The layer's input, [..., in].</param>
    Tensor? Replace(LinearLayer layer, Tensor input) => null;

    /// <summary>The low-rank update, if the adapter currently computes only that; otherwise null.</summary>
    internal LowRankUpdate? PlainUpdate => null;
}

/// <summary>Virtual tokens of an adapter ahead of every text (prompt tuning, prefix tuning).</summary>
internal interface IVirtualTokens
{
    /// <summary>Number of virtual tokens.</summary>
    int Count { get; }

    /// <summary>Their embeddings, [tokens, hidden]; null if only their keys and values matter.</summary>
    Tensor? Embeddings();

    /// <summary>Their keys and values in a layer, each [heads, tokens, head_dim]; null for those that the layer computes.</summary>
    /// <param name="layer">Index of the layer.</param>
    (Tensor Keys, Tensor Values)? KeysAndValues(int layer);
}

/// <summary>An adapter that changes the output of a token embedding without changing its weight.</summary>
internal interface IEmbeddingAdapter
{
    /// <summary>Adds the adapter's part to the embedding's output.</summary>
    /// <param name="layer">The embedding.</param>
    /// <param name="ids">Token ids, [tokens], int64.</param>
    /// <param name="output">The embedding's own output, [tokens, hidden].</param>
    Tensor Apply(TokenEmbedding layer, Tensor ids, Tensor output);
}
