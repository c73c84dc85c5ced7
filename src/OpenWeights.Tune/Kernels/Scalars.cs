using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Numbers for tensor arithmetic that live as long as the program. TorchSharp makes a native scalar of every number that meets a tensor
/// (and of the 1 behind every plain addition), which only the finalizer owns: a collection at the wrong moment frees it during the call.
/// So no number is handed over in passing here: it is one of these, a field, or a local with `using`.
/// </summary>
internal static class Scalars
{
    internal static readonly Scalar Zero = 0.0;

    internal static readonly Scalar One = 1.0;

    /// <summary>a + b.</summary>
    internal static Tensor Plus(this Tensor left, Tensor right) => left.add(right, One);

    /// <summary>a += b, and gives a.</summary>
    internal static Tensor PlusInPlace(this Tensor left, Tensor right) => left.add_(right, One);
}
