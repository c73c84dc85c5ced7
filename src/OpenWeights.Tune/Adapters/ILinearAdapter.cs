using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>What changes the output of a linear layer whose own weight stays as it is.</summary>
public interface ILinearAdapter
{
    /// <summary>The layer's output with the adapter's part.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="input">The layer's input, [..., in].</param>
    /// <param name="output">The layer's own output, [..., out].</param>
    Tensor Apply(LinearLayer layer, Tensor input, Tensor output);
}
