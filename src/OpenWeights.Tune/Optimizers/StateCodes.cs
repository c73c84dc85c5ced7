using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// 8-bit optimizer state: the dynamic data type with a scale per 256 elements (Dettmers et al., 2022), with the codes that bitsandbytes 0.50
/// gives: on a CPU those of a table of evenly spaced numbers, on a GPU the nearest ones, with the sign kept.
/// </summary>
internal static unsafe class StateCodes
{
    /// <summary>Number of elements per scale.</summary>
    internal const int BlockSize = 256;

    private const float TableEnd = ushort.MaxValue;
    private static readonly Scalar s_least = 1e-38;

    /// <summary>Number of scales of a number of elements.</summary>
    internal static long Blocks(long elements) => (elements + BlockSize - 1) / BlockSize;

    /// <summary>Dequantizes codes.</summary>
    /// <param name="codes">Codes, [elements] bytes.</param>
    /// <param name="scales">Scale of each block.</param>
    /// <param name="signed">Whether the codes have a sign.</param>
    /// <returns>[elements] float32, in the current dispose scope.</returns>
    internal static Tensor Decode(Tensor codes, Tensor scales, bool signed)
    {
        using var scope = NewDisposeScope();
        var count = codes.numel();
        var values = DynamicCode.Of(signed, codes.device).Values.index_select(0, codes.to(ScalarType.Int32));
        var blocks = Padded(values).view(-1, BlockSize);
        return blocks.mul_(scales.unsqueeze(1)).view(-1).narrow(0, 0, count).MoveToOuterDisposeScope();
    }

    /// <summary>Quantizes numbers.</summary>
    /// <param name="values">float32 numbers of any shape.</param>
    /// <param name="codes">Destination of the codes, [elements] bytes.</param>
    /// <param name="scales">Destination of the scales, [blocks].</param>
    /// <param name="signed">Whether the codes have a sign.</param>
    internal static void Encode(Tensor values, Tensor codes, Tensor scales, bool signed)
    {
        using var scope = NewDisposeScope();
        var flat = values.contiguous().view(-1);
        if (values.device_type == DeviceType.CPU)
        {
            EncodeOnCpu(flat, codes, scales, signed);
            return;
        }

        var code = DynamicCode.Of(signed, values.device);
        var blocks = Padded(flat).view(-1, BlockSize);
        _ = scales.copy_(blocks.abs().amax(1));
        var found = blocks.div(scales.clamp_min(s_least).unsqueeze(1)).bucketize(code.Middles, outInt32: true);
        if (signed)
        {
            // A nonzero mean keeps its sign: one that rounds to 0 or past it moves back a level, as in bitsandbytes' kernel.
            var negative = blocks.lt(Scalars.Zero);
            var zero = code.Values.index_select(0, found.view(-1)).view(-1, BlockSize).ge(Scalars.Zero);
            _ = found.sub_(negative.logical_and(zero).to(ScalarType.Int32));
        }

        _ = codes.copy_(found.view(-1).narrow(0, 0, flat.numel()));
    }

    /// <summary>Dequantizes a block.</summary>
    /// <param name="codes">Its codes.</param>
    /// <param name="scale">Its scale.</param>
    /// <param name="levels">The 256 levels of the data type.</param>
    /// <param name="values">Destination, with room for whole vectors.</param>
    /// <param name="count">Number of elements.</param>
    internal static void DecodeBlock(byte* codes, float scale, ReadOnlySpan<float> levels, float* values, int count)
    {
        for (var i = 0; i < count; i++)
        {
            values[i] = levels[codes[i]] * scale;
        }
    }

    /// <summary>Quantizes a block as bitsandbytes does on a CPU.</summary>
    /// <param name="values">The numbers, followed by zeros up to a whole vector.</param>
    /// <param name="count">Number of elements.</param>
    /// <param name="table">The codes of 65,536 evenly spaced numbers.</param>
    /// <param name="codes">Destination of the codes.</param>
    /// <returns>The block's scale.</returns>
    internal static float EncodeBlock(float* values, int count, ReadOnlySpan<byte> table, byte* codes)
    {
        var most = Vector256<float>.Zero;
        for (var i = 0; i < count; i += Lanes.Width)
        {
            most = Vector256.Max(most, Vector256.Abs(Vector256.Load(values + i)));
        }

        var scale = 0f;
        for (var i = 0; i < Lanes.Width; i++)
        {
            scale = Math.Max(scale, most[i]);
        }

        if (scale == 0)
        {
            Unsafe.InitBlockUnaligned(codes, 0, (uint)count);
            return 0;
        }

        var (factor, half, end) = (Vector256.Create(1f / scale), Vector256.Create(0.5f), Vector256.Create(TableEnd));
        var place = stackalloc int[Lanes.Width];
        for (var i = 0; i < count; i += Lanes.Width)
        {
            var number = Vector256.Min(Vector256.Max(Vector256.Load(values + i) * factor, -Vector256<float>.One), Vector256<float>.One);
            Vector256.ConvertToInt32(Vector256.FusedMultiplyAdd((number + Vector256<float>.One) * half, end, half)).Store(place);
            for (var k = 0; k < Math.Min(Lanes.Width, count - i); k++)
            {
                codes[i + k] = table[(ushort)place[k]];
            }
        }

        return scale;
    }

    private static void EncodeOnCpu(Tensor values, Tensor codes, Tensor scales, bool signed)
    {
        var (from, to, ofBlocks, count) = ((nint)CpuKernel.Pointer(values), (nint)CpuKernel.Pointer(codes), (nint)CpuKernel.Pointer(scales), values.numel());
        CpuKernel.Run(scales.numel(), BlockSize, (first, end) =>
        {
            var table = DynamicCode.TableOf(signed);
            var block = stackalloc float[BlockSize];
            for (var i = first; i < end; i++)
            {
                var length = (int)Math.Min(BlockSize, count - (i * BlockSize));
                new Span<float>(block, BlockSize).Clear();
                new ReadOnlySpan<float>((float*)from + (i * BlockSize), length).CopyTo(new Span<float>(block, length));
                ((float*)ofBlocks)[i] = EncodeBlock(block, length, table, (byte*)to + (i * BlockSize));
            }
        });
        GC.KeepAlive((values, codes, scales));
    }

    // Padded with zeros to whole blocks.
    private static Tensor Padded(Tensor values)
    {
        var rest = values.numel() % BlockSize;
        return rest == 0 ? values : cat([values, zeros([BlockSize - rest], float32, values.device)], 0);
    }
}
