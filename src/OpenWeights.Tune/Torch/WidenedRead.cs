using System.Buffers;
using System.Runtime.Intrinsics;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Reads bfloat16 and float16 tensors as float32: each piece is converted while it is in the processor's cache, so that
/// memory is written once and never read.
/// </summary>
internal static unsafe class WidenedRead
{
    // Bytes that a thread processes at a time, and reads at once: half of a small L2 cache.
    private const long PartElements = 1 << 21;
    private const int PieceElements = 1 << 16;

    /// <summary>Whether the conversion between two dtypes is supported.</summary>
    internal static bool Serves(ScalarType stored, ScalarType wanted) => wanted == ScalarType.Float32 && stored is ScalarType.BFloat16 or ScalarType.Float16;

    /// <summary>Fills a tensor.</summary>
    /// <param name="result">A new float32 tensor on the CPU.</param>
    /// <param name="source">The file or checkpoint.</param>
    /// <param name="entry">The tensor to read.</param>
    internal static void Fill(Tensor result, ITensorSource source, TensorEntry entry)
    {
        if (entry.ElementCount == 0)
        {
            return;
        }

        var (place, elements, isHalf) = ((nint)CpuKernel.Pointer(result), entry.ElementCount, entry.DType == DType.F16);
        TensorFiles.InParts((elements + PartElements - 1) / PartElements, part =>
        {
            var buffer = ArrayPool<byte>.Shared.Rent(PieceElements * sizeof(ushort));
            try
            {
                var end = Math.Min(elements, (part + 1) * PartElements);
                for (var start = part * PartElements; start < end; start += PieceElements)
                {
                    var piece = buffer.AsSpan(0, (int)Math.Min(PieceElements, end - start) * sizeof(ushort));
                    source.CopyTo(entry.Name, start * sizeof(ushort), piece);
                    fixed (byte* from = piece)
                    {
                        Widen((ushort*)from, (float*)place + start, piece.Length / sizeof(ushort), isHalf);
                    }
                }
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        });
        GC.KeepAlive(result);
    }

    private static void Widen(ushort* from, float* to, int count, bool isHalf)
    {
        var i = 0;
        for (; i <= count - Vector128<ushort>.Count; i += Vector128<ushort>.Count)
        {
            Widen(Vector128.Load(from + i), isHalf).Store(to + i);
        }

        if (i < count)
        {
            Span<ushort> rest = stackalloc ushort[Vector128<ushort>.Count];
            Span<float> widened = stackalloc float[Vector128<ushort>.Count];
            rest.Clear();
            new Span<ushort>(from + i, count - i).CopyTo(rest);
            Widen(Vector128.Create<ushort>(rest), isHalf).CopyTo(widened);
            widened[..(count - i)].CopyTo(new Span<float>(to + i, count - i));
        }
    }

    private static Vector256<float> Widen(Vector128<ushort> stored, bool isHalf)
    {
        var (lower, upper) = Vector128.Widen(stored);
        var bits = Vector256.Create(lower, upper);
        return (isHalf ? WidenHalf(bits) : bits << 16).AsSingle();
    }

    // Exponent and fraction, shifted to float32's positions, give a number too small by 2^112, also for subnormal numbers;
    // infinities and NaNs, whose exponent is all ones, keep such an exponent.
    private static Vector256<uint> WidenHalf(Vector256<uint> bits)
    {
        var size = (bits & Vector256.Create(0x7FFFu)) << 13;
        var number = (size.AsSingle() * Vector256.Create(BitConverter.UInt32BitsToSingle(0x77800000))).AsUInt32();
        var notFinite = Vector256.GreaterThanOrEqual(size, Vector256.Create(0x7C00u << 13)) & Vector256.Create(0x7F800000u);
        return number | notFinite | ((bits & Vector256.Create(0x8000u)) << 16);
    }
}
