using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Kernels.Blocks;

/// <summary>
/// Blocks of a GGUF type (<see href="https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c"/>). Their values are computed exactly as
/// when they are unpacked: a code times a scale fits into a float, and the offset is added with one rounding.
/// </summary>
internal unsafe interface IBlocks
{
    /// <summary>Values of a line, which all kernels compute together.</summary>
    internal const int Line = 32;

    /// <summary>Values of a block.</summary>
    static abstract int Length { get; }

    /// <summary>Bytes of a block.</summary>
    static abstract int Bytes { get; }

    /// <summary>The codes of a line, and what they mean.</summary>
    /// <param name="block">The block.</param>
    /// <param name="line">Index of the line in the block.</param>
    static abstract BlockLine Read(byte* block, int line);

    /// <summary>The values of a line, by instructions of AVX-512.</summary>
    /// <param name="block">The block.</param>
    /// <param name="line">Index of the line in the block.</param>
    /// <param name="first">The first 16.</param>
    /// <param name="second">The other 16.</param>
    static abstract void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second);
}

/// <summary>32 values of a block: code · scale + offset.</summary>
/// <param name="First">The first 16 codes.</param>
/// <param name="Second">The other 16.</param>
/// <param name="Scale">Scale of the first 16.</param>
/// <param name="Offset">Added to the first 16.</param>
/// <param name="OtherScale">Scale of the other 16.</param>
/// <param name="OtherOffset">Added to the other 16.</param>
internal readonly record struct BlockLine(Vector128<byte> First, Vector128<byte> Second, float Scale, float Offset, float OtherScale, float OtherOffset)
{
    internal BlockLine(Vector128<byte> first, Vector128<byte> second, float scale, float offset)
        : this(first, second, scale, offset, scale, offset)
    {
    }
}
