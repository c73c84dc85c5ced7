using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>What changes the output of a linear layer whose own weight stays as it is.</summary>
public interface ILinearAdapter
{
    /// <summary>The layer's output with the adapter's part.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="input">The layer's input, [..., in].</param>
    /// <param name="output">The layer's own output, [..., out].</param>
    Tensor Apply(LinearLayer layer, Tensor input, Tensor output);

    /// <summary>The update where a low-rank update is all that the adapter does now; null where it does more.</summary>
    internal LowRankUpdate? PlainUpdate => null;
}

/// <summary>What changes the output of a token embedding whose own weight stays as it is.</summary>
public interface IEmbeddingAdapter
{
    /// <summary>The embedding's output with the adapter's part.</summary>
    /// <param name="layer">The embedding.</param>
    /// <param name="ids">Token ids, [tokens], int64.</param>
    /// <param name="output">The embedding's own output, [tokens, hidden].</param>
    Tensor Apply(TokenEmbedding layer, Tensor ids, Tensor output);
}
