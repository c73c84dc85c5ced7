using OpenWeights.Formats.Gguf;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Kernels.Blocks;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A weight as a GGUF file holds it, in blocks of few bits; on a CPU.</summary>
internal sealed class GgufWeight : QuantizedWeight
{
    private readonly Tensor _blocks;
    private readonly MatrixRows _rows;

    /// <summary>Reads a file's matrix, without unpacking it.</summary>
    /// <param name="matrix">The matrix, [out, in].</param>
    public GgufWeight(GgufMatrix matrix)
        : base(Required(matrix).OutFeatures, matrix.InFeatures, grain: 1)
    {
        if (!Serves(matrix.Type))
        {
            throw new NotSupportedException($"{matrix.Type} cannot be multiplied without unpacking it");
        }

        (Type, _blocks) = (matrix.Type, OfBlocks(matrix));
        _rows = Of(matrix.Type);
    }

    /// <summary>Type of the blocks.</summary>
    public GgufType Type { get; }

    /// <inheritdoc/>
    public override long ByteLength => _blocks.numel();

    /// <summary>Whether weights of a type are kept as they are.</summary>
    /// <param name="type">The type.</param>
    public static bool Serves(GgufType type) => BitConverter.IsLittleEndian && type is not (GgufType.F32 or GgufType.F16 or GgufType.BF16) && Enum.IsDefined(type);

    /// <inheritdoc/>
    public override Tensor Rows(long start, long count, ScalarType dtype)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var values = empty([count, InFeatures], float32);
        unsafe
        {
            var place = (nint)CpuKernel.Pointer(values);
            CpuKernel.Run(count, InFeatures, (first, last) => _rows.Read((nint)(start + first), (nint)(last - first), (float*)place + (first * InFeatures)));
        }

        GC.KeepAlive((this, values));
        return values.to(dtype).MoveToOuterDisposeScope();
    }

    private protected override MatrixRows? RowsInMemory() => _rows;

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _blocks.Dispose();
        }
    }

    private static GgufMatrix Required(GgufMatrix matrix)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        return matrix;
    }

    // Some rows at a time, because a span cannot hold more than 2 GB.
    private static Tensor OfBlocks(GgufMatrix matrix)
    {
        var blocks = empty([matrix.OutFeatures, matrix.RowBytes], uint8);
        var part = Math.Max(1, (1 << 24) / matrix.RowBytes);
        var buffer = new byte[checked((int)(Math.Min(part, matrix.OutFeatures) * matrix.RowBytes))];
        unsafe
        {
            var place = (byte*)CpuKernel.Pointer(blocks);
            for (long row = 0; row < matrix.OutFeatures; row += part)
            {
                var bytes = (int)(Math.Min(part, matrix.OutFeatures - row) * matrix.RowBytes);
                matrix.Copy(row, buffer.AsMemory(0, bytes));
                buffer.AsSpan(0, bytes).CopyTo(new Span<byte>(place + (row * matrix.RowBytes), bytes));
            }
        }

        return blocks.DetachFromDisposeScope();
    }

    private MatrixRows Of(GgufType type) => type switch
    {
        GgufType.Q4_0 => Of<Q40Blocks>(),
        GgufType.Q4_1 => Of<Q41Blocks>(),
        GgufType.Q5_0 => Of<Q50Blocks>(),
        GgufType.Q5_1 => Of<Q51Blocks>(),
        GgufType.Q8_0 => Of<Q80Blocks>(),
        GgufType.Q2_K => Of<Q2KBlocks>(),
        GgufType.Q3_K => Of<Q3KBlocks>(),
        GgufType.Q4_K => Of<Q4KBlocks>(),
        GgufType.Q5_K => Of<Q5KBlocks>(),
        GgufType.Q6_K => Of<Q6KBlocks>(),
        GgufType.IQ4_NL => Of<Iq4NlBlocks>(),
        _ => Of<Mxfp4Blocks>(),
    };

    private unsafe BlockRows<TBlocks> Of<TBlocks>()
        where TBlocks : struct, IBlocks => new((nint)CpuKernel.Pointer(_blocks), (nint)InFeatures, (nint)OutFeatures);
}
