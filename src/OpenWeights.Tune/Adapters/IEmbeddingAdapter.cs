using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>What changes the output of a token embedding whose own weight stays as it is.</summary>
public interface IEmbeddingAdapter
{
    /// <summary>The embedding's output with the adapter's part.</summary>
    /// <param name="layer">The embedding.</param>
    /// <param name="ids">Token ids, [tokens], int64.</param>
    /// <param name="output">The embedding's own output, [tokens, hidden].</param>
    Tensor Apply(TokenEmbedding layer, Tensor ids, Tensor output);
}
