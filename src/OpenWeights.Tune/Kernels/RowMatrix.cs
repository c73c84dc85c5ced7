using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Where the rows of a matrix lie, their numbers side by side.</summary>
/// <param name="Start">The first number.</param>
/// <param name="Depth">The numbers of a row, after which the next one begins.</param>
/// <param name="IsHalf">Whether they are bfloat16, and not float32.</param>
internal readonly record struct RowMatrix(nint Start, nint Depth, bool IsHalf)
{
    /// <summary>The bytes of a row.</summary>
    internal nint RowBytes => Depth * (IsHalf ? sizeof(ushort) : sizeof(float));

    /// <summary>A matrix that <see cref="CpuKernel.Serves(Tensor)"/>. It must stay referenced while it is worked on.</summary>
    internal static unsafe RowMatrix Of(Tensor matrix) => new((nint)CpuKernel.Pointer(matrix), (nint)matrix.size(1), matrix.dtype == ScalarType.BFloat16);

    /// <summary>The matrix from a row on.</summary>
    internal RowMatrix From(nint row) => this with { Start = Start + (row * RowBytes) };
}
