using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Scalars for tensor arithmetic that live as long as the program. TorchSharp creates a native scalar for every number used with a tensor
/// (and for the implicit 1 of every plain addition), owned only by a finalizer: a collection at the wrong moment frees it during the call.
/// Therefore numbers are never passed directly: they are one of these, a field, or a local with `using`.
/// </summary>
internal static class Scalars
{
    internal static readonly Scalar Zero = 0.0;

    internal static readonly Scalar One = 1.0;

    /// <summary>a + b.</summary>
    internal static Tensor Plus(this Tensor left, Tensor right) => left.add(right, One);

    /// <summary>a += b; returns a.</summary>
    internal static Tensor PlusInPlace(this Tensor left, Tensor right) => left.add_(right, One);
}
