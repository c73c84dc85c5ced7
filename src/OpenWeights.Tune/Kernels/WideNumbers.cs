using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// The dtype of steps that are computed at least in float32, whatever the model's dtype: norms, softmax, sums, and adapters. A float64 model computes them in
/// float64 as well.
/// </summary>
internal static class WideNumbers
{
    /// <summary>float64 for float64, and float32 for all others.</summary>
    /// <param name="dtype">Data type of the model, or of a tensor.</param>
    internal static ScalarType Of(ScalarType dtype) => dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;

    /// <summary>The tensor in float32, or as it is if it is float64.</summary>
    /// <param name="states">The tensor.</param>
    internal static Tensor Widened(this Tensor states) => states.to(Of(states.dtype));
}
