using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>A weight that a checkpoint holds quantised, in several stored tensors: a matrix, or a stack of matrices.</summary>
/// <param name="Name">Name that the weight would have if it were stored in full.</param>
/// <param name="Shape">Shape that it would have.</param>
/// <param name="Parts">The stored tensors that make it up, codes first.</param>
public sealed record PackedTensor(string Name, IReadOnlyList<long> Shape, IReadOnlyList<TensorEntry> Parts)
{
    /// <summary>Reads one of its matrices, [out, in].</summary>
    public required Func<int, PackedMatrix> Read { get; init; }

    /// <summary>Whether the matrices are transposed in <see cref="Shape"/>: [in, out].</summary>
    public bool IsTransposed { get; init; }

    /// <summary>Number of matrices.</summary>
    public int Count => Shape.Count == 2 ? 1 : checked((int)Shape[0]);

    /// <summary>Output features of each matrix.</summary>
    public long OutFeatures => IsTransposed ? Shape[^1] : Shape[^2];

    /// <summary>Input features of each matrix.</summary>
    public long InFeatures => IsTransposed ? Shape[^2] : Shape[^1];

    /// <summary>Bytes of all its parts.</summary>
    public long ByteLength => Parts.Sum(static part => part.ByteLength);
}
