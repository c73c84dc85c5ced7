using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// A linear layer's output for the few tokens that are read at once while a text is generated: the weight is read once from memory, where
/// BLAS packs it first. float32 or bfloat16, summed in float32.
/// </summary>
internal static unsafe class FewRowsProduct
{
    // From here on BLAS makes up for its packing.
    private const long MostRows = 4;

    // Numbers that are summed side by side: four vectors.
    private const int Stride = 4 * Lanes.Width;
    private const int NumbersOfPairs = 2 * Lanes.Width;

    /// <summary>Whether a product is computed here: few rows on the CPU, of the weight's dtype.</summary>
    internal static bool Serves(Tensor input, Tensor weight) =>
        input.numel() > 0 && input.numel() <= MostRows * input.size(-1) && CpuKernel.Serves(input, weight) && BitConverter.IsLittleEndian;

    /// <summary>x Wᵀ + b without a graph, [..., out], of the input's dtype.</summary>
    /// <param name="input">[..., in].</param>
    /// <param name="weight">[out, in], of the input's dtype.</param>
    /// <param name="bias">[out], or null.</param>
    internal static Tensor Linear(Tensor input, Tensor weight, Tensor? bias)
    {
        if (!Serves(input, weight))
        {
            return nn.functional.linear(input, weight, bias);
        }

        using var scope = NewDisposeScope();
        var states = input.detach().to(float32);
        var output = empty([.. input.shape[..^1], weight.size(0)], weight.dtype, weight.device);
        if (weight.dtype == float32)
        {
            Run(states, weight, output, new Float32Rows());
        }
        else
        {
            Run(Paired(states), weight, output, new BFloat16Rows());
        }

        return (bias is null ? output : output.PlusInPlace(bias.detach())).MoveToOuterDisposeScope();
    }

    private static void Run<T>(Tensor states, Tensor weight, Tensor output, T kind)
        where T : struct, IRows
    {
        var (columns, depth) = (weight.size(0), (nint)weight.size(1));
        var rows = (int)(states.numel() / depth);
        var (x, w, y) = ((nint)CpuKernel.Pointer(states), (nint)CpuKernel.Pointer(weight), (nint)CpuKernel.Pointer(output));
        CpuKernel.Run(columns, depth, (first, last) =>
        {
            for (var column = first; column < last; column++)
            {
                for (var row = 0; row < rows; row++)
                {
                    kind.Write((void*)y, (row * columns) + column, kind.Dot((float*)x + (row * depth), (void*)w, column * depth, depth));
                }
            }
        });
        GC.KeepAlive((states, weight, output));
    }

    // Two bfloat16 lie in the place of a float32, the first in its lower half: a shift gives eight first ones of a vector of pairs, a mask
    // eight second ones. So the states' first and second ones of eight pairs come together too.
    private static Tensor Paired(Tensor states)
    {
        var depth = states.size(-1);
        var whole = depth - (depth % Stride);
        var (rows, paired) = (states.view(-1, depth), empty([states.numel() / depth, depth]));
        var pairs = rows.narrow(1, 0, whole).reshape(rows.size(0), whole / NumbersOfPairs, Lanes.Width, 2).transpose(2, 3);
        _ = paired.narrow(1, 0, whole).view(rows.size(0), whole / NumbersOfPairs, 2, Lanes.Width).copy_(pairs);
        _ = paired.narrow(1, whole, depth - whole).copy_(rows.narrow(1, whole, depth - whole));
        return paired;
    }

    private interface IRows
    {
        float Dot(float* x, void* weight, long start, nint count);

        void Write(void* output, long index, float value);
    }

    private readonly struct Float32Rows : IRows
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public float Dot(float* x, void* weight, long start, nint count)
        {
            var w = (float*)weight + start;
            var (s0, s1, s2, s3) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
            nint i = 0;
            for (; i <= count - Stride; i += Stride)
            {
                s0 = Vector256.MultiplyAddEstimate(Vector256.Load(x + i), Vector256.Load(w + i), s0);
                s1 = Vector256.MultiplyAddEstimate(Vector256.Load(x + i + 8), Vector256.Load(w + i + 8), s1);
                s2 = Vector256.MultiplyAddEstimate(Vector256.Load(x + i + 16), Vector256.Load(w + i + 16), s2);
                s3 = Vector256.MultiplyAddEstimate(Vector256.Load(x + i + 24), Vector256.Load(w + i + 24), s3);
            }

            var sum = Vector256.Sum(s0 + s1 + (s2 + s3));
            for (; i < count; i++)
            {
                sum += x[i] * w[i];
            }

            return sum;
        }

        public void Write(void* output, long index, float value) => ((float*)output)[index] = value;
    }

    private readonly struct BFloat16Rows : IRows
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public float Dot(float* x, void* weight, long start, nint count)
        {
            var w = (ushort*)weight + start;
            var upper = Vector256.Create(0xFFFF0000u);
            var (s0, s1, s2, s3) = (Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero, Vector256<float>.Zero);
            nint i = 0;
            for (; i <= count - Stride; i += Stride)
            {
                var (a, b) = (Vector256.Load((uint*)(w + i)), Vector256.Load((uint*)(w + i + 16)));
                s0 = Vector256.MultiplyAddEstimate(Vector256.Load(x + i), (a << 16).AsSingle(), s0);
                s1 = Vector256.MultiplyAddEstimate(Vector256.Load(x + i + 8), (a & upper).AsSingle(), s1);
                s2 = Vector256.MultiplyAddEstimate(Vector256.Load(x + i + 16), (b << 16).AsSingle(), s2);
                s3 = Vector256.MultiplyAddEstimate(Vector256.Load(x + i + 24), (b & upper).AsSingle(), s3);
            }

            var sum = Vector256.Sum(s0 + s1 + (s2 + s3));
            for (; i < count; i++)
            {
                sum += x[i] * BitConverter.UInt32BitsToSingle((uint)w[i] << 16);
            }

            return sum;
        }

        public void Write(void* output, long index, float value) => BFloat16Elements.StoreSome(output, (nint)index, Vector256.CreateScalar(value), 1);
    }
}
