using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels;

/// <summary>Rows of packed codes in memory: value = (level of the code - zero) x scale.</summary>
internal readonly unsafe struct PackedRows
{
    /// <summary>The codes; each row begins at a byte, its first code in the lowest bits.</summary>
    internal required byte* Codes { get; init; }

    /// <summary>Bytes from row to row.</summary>
    internal required nint RowBytes { get; init; }

    /// <summary>Codes of a row.</summary>
    internal required nint Columns { get; init; }

    /// <summary>Bits of a code, 1 to 8.</summary>
    internal required int Bits { get; init; }

    /// <summary>What the codes mean: 16 numbers for up to 4 bits, otherwise 256.</summary>
    internal required float* Levels { get; init; }

    /// <summary>Whether codes are signed bytes, so that <see cref="Levels"/> is not needed.</summary>
    internal bool AreSigned { get; init; }

    /// <summary>The scales.</summary>
    internal required PackedScaleRows Scales { get; init; }

    /// <summary>Zeros, one for each scale; null for none.</summary>
    internal byte* Zeros { get; init; }

    /// <summary>The column of scales for each column; null where columns with one scale follow each other.</summary>
    internal int* Groups { get; init; }
}

/// <summary>A grid of scales in memory.</summary>
internal readonly unsafe struct PackedScaleRows
{
    /// <summary>The stored numbers.</summary>
    internal required void* Values { get; init; }

    /// <summary>Their type.</summary>
    internal required PackedScaleType Type { get; init; }

    /// <summary>Columns of the grid.</summary>
    internal required nint Columns { get; init; }

    /// <summary>Rows of codes that share a row of scales.</summary>
    internal required nint BlockRows { get; init; }

    /// <summary>Codes of a row that share a scale.</summary>
    internal required nint BlockColumns { get; init; }

    /// <summary>Values of bytes.</summary>
    internal float* Table { get; init; }

    /// <summary>Scales of the scales; null for none.</summary>
    internal float* Outer { get; init; }

    /// <summary>Number of scales that share one of <see cref="Outer"/>.</summary>
    internal nint OuterBlock { get; init; }

    /// <summary>Added to scales that have scales.</summary>
    internal float Offset { get; init; }

    /// <summary>Reads scales as float32.</summary>
    /// <param name="first">Index of the first in the grid.</param>
    /// <param name="count">Number of scales.</param>
    /// <param name="to">Receives them.</param>
    [SkipLocalsInit]
    internal void Read(nint first, nint count, float* to)
    {
        switch (Type)
        {
            case PackedScaleType.Float32:
                Buffer.MemoryCopy((float*)Values + first, to, count * sizeof(float), count * sizeof(float));
                break;
            case PackedScaleType.Float16:
                for (nint i = 0; i < count; i++)
                {
                    to[i] = (float)((Half*)Values)[first + i];
                }

                break;
            case PackedScaleType.BFloat16:
                for (nint i = 0; i < count; i++)
                {
                    to[i] = BitConverter.Int32BitsToSingle(((ushort*)Values)[first + i] << 16);
                }

                break;
            case PackedScaleType.Bytes when Outer is null:
                for (nint i = 0; i < count; i++)
                {
                    to[i] = Table[((byte*)Values)[first + i]];
                }

                break;
            default:
                Nested(first, count, to);
                break;
        }
    }

    // Scales that have scales, as far as they share one.
    private void Nested(nint first, nint count, float* to)
    {
        for (var (done, outer) = ((nint)0, first / OuterBlock); done < count; outer++)
        {
            var (end, scale) = (Math.Min(count, ((outer + 1) * OuterBlock) - first), Outer[outer]);
            for (; CpuKernel.LooksUp && done <= end - 8; done += 8)
            {
                var found = Avx2.GatherVector256(Table, Avx2.ConvertToVector256Int32((byte*)Values + first + done), sizeof(float));
                ((found * scale) + Vector256.Create(Offset)).Store(to + done);
            }

            for (; done < end; done++)
            {
                to[done] = (Table[((byte*)Values)[first + done]] * scale) + Offset;
            }
        }
    }
}

/// <summary>How scales are stored.</summary>
internal enum PackedScaleType
{
    /// <summary>float32.</summary>
    Float32,

    /// <summary>float16.</summary>
    Float16,

    /// <summary>bfloat16.</summary>
    BFloat16,

    /// <summary>Bytes whose values are in a table; with scales of their own or without.</summary>
    Bytes,
}
