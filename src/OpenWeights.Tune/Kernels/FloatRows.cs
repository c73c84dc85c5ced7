using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>A few rows of float32 numbers, evenly apart.</summary>
/// <param name="Start">The first number.</param>
/// <param name="Stride">From a row to the next.</param>
/// <param name="Count">How many rows.</param>
internal readonly unsafe record struct FloatRows(nint Start, nint Stride, nint Count)
{
    /// <summary>A row.</summary>
    internal float* this[nint row] => (float*)Start + (row * Stride);

    /// <summary>The rows of a float32 tensor in one piece, [..., features]. It must stay referenced while they are worked on.</summary>
    internal static FloatRows Of(Tensor states) => new((nint)CpuKernel.Pointer(states), (nint)states.size(-1), (nint)(states.numel() / states.size(-1)));

    /// <summary>The rows from a column on.</summary>
    internal FloatRows From(nint column) => this with { Start = Start + (column * sizeof(float)) };

    /// <summary>The rows from one on.</summary>
    internal FloatRows Down(nint row) => this with { Start = Start + (row * Stride * sizeof(float)), Count = Count - row };
}
