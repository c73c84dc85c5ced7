using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Softmax of rows where they lie, and what is made of it, in float32.</summary>
internal static unsafe class SoftmaxKernel
{
    /// <summary>Softmax of attention scores in place; keys behind what a query may see get zeros.</summary>
    /// <param name="scores">[rows, queries of a block x ..., keys], float32, in one piece; the last dimension but one repeats the block's queries.</param>
    /// <param name="queries">The number of queries of the block.</param>
    /// <param name="ahead">How many of the keys the first query of the block may not see since they come after it; each next one sees one more.</param>
    internal static void Causal(Tensor scores, long queries, long ahead)
    {
        var keys = (nint)scores.size(-1);
        var p = (nint)CpuKernel.Pointer(scores);
        CpuKernel.Run(scores.numel() / keys, keys * 2, (first, last) =>
        {
            for (var row = first; row < last; row++)
            {
                var seen = keys - (nint)Math.Max(0, ahead - (row % queries));
                var start = (float*)p + (row * keys);
                Scale(start, seen, 1 / Exponentials(start, seen, Largest(start, seen)));
                new Span<float>(start + seen, (int)(keys - seen)).Clear();
            }
        });
        GC.KeepAlive(scores);
    }

    /// <summary>The scores' gradient in place of the weights' gradient: p (dp - sum of p dp).</summary>
    /// <param name="weights">p, [..., keys], float32, in one piece.</param>
    /// <param name="gradient">dp, of their shape; becomes the gradient of the scores.</param>
    internal static void Backward(Tensor weights, Tensor gradient)
    {
        var keys = (nint)weights.size(-1);
        var (p, g) = ((nint)CpuKernel.Pointer(weights), (nint)CpuKernel.Pointer(gradient));
        CpuKernel.Run(weights.numel() / keys, keys * 2, (first, last) =>
        {
            for (var row = first; row < last; row++)
            {
                if (CpuKernel.IsWide)
                {
                    VectorFunctions.SoftmaxGradient<Vectors512, Vector512<float>>((float*)p + (row * keys), (float*)g + (row * keys), keys);
                }
                else
                {
                    VectorFunctions.SoftmaxGradient<Vectors256, Vector256<float>>((float*)p + (row * keys), (float*)g + (row * keys), keys);
                }
            }
        });
        GC.KeepAlive((weights, gradient));
    }

    /// <summary>Cross entropy of rows, whose scores become its gradient where they lie: softmax - onehot.</summary>
    /// <param name="scores">[rows, vocabulary], float32, in one piece.</param>
    /// <param name="targets">[rows], int64, on the CPU and in one piece.</param>
    /// <param name="wantsGradient">Whether scores become the gradient; else they are left undefined.</param>
    /// <returns>The summed loss.</returns>
    internal static double CrossEntropy(Tensor scores, Tensor targets, bool wantsGradient)
    {
        var (rows, vocabulary) = (scores.size(0), (nint)scores.size(1));
        var (p, t) = ((nint)CpuKernel.Pointer(scores), (nint)CpuKernel.Pointer(targets));
        var losses = new double[rows];
        CpuKernel.Run(rows, vocabulary, (first, last) =>
        {
            for (var row = first; row < last; row++)
            {
                losses[row] = Row((float*)p + (row * vocabulary), vocabulary, (nint)((long*)t)[row], wantsGradient);
            }
        });
        GC.KeepAlive((scores, targets));
        return losses.Sum();
    }

    private static double Row(float* scores, nint count, nint target, bool wantsGradient)
    {
        var (largest, wanted) = (Largest(scores, count), scores[target]);
        var sum = Exponentials(scores, count, largest);
        if (wantsGradient)
        {
            Scale(scores, count, 1 / sum);
            scores[target] -= 1;
        }

        return Math.Log(sum) + largest - wanted;
    }

    private static float Largest(float* row, nint count) => CpuKernel.IsWide
        ? VectorFunctions.Largest<Vectors512, Vector512<float>>(row, count)
        : VectorFunctions.Largest<Vectors256, Vector256<float>>(row, count);

    // exp(x - largest) in place, and their sum.
    private static float Exponentials(float* row, nint count, float largest) => CpuKernel.IsWide
        ? VectorFunctions.Exponentials<Vectors512, Vector512<float>>(row, count, largest)
        : VectorFunctions.Exponentials<Vectors256, Vector256<float>>(row, count, largest);

    private static void Scale(float* row, nint count, float factor)
    {
        if (CpuKernel.IsWide)
        {
            VectorFunctions.Scale<Vectors512, Vector512<float>>(row, count, factor);
        }
        else
        {
            VectorFunctions.Scale<Vectors256, Vector256<float>>(row, count, factor);
        }
    }
}
