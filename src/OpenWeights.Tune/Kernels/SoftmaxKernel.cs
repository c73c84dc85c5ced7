using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Row-wise softmax in place, and operations built on it, in float32.</summary>
internal static unsafe class SoftmaxKernel
{
    /// <summary>Softmax of attention scores in place; the weights of keys after the query's position become zero.</summary>
    /// <param name="scores">Scores, [rows, queries of a block x ..., keys], float32, contiguous; the second-to-last dimension repeats the
    /// block's queries.</param>
    /// <param name="queries">Number of queries of the block.</param>
    /// <param name="ahead">Number of keys after the position of the block's first query; each further query has one less.</param>
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
                Scale(start, seen, (float)(1 / Exponentials(start, seen, Largest(start, seen))));
                new Span<float>(start + seen, (int)(keys - seen)).Clear();
            }
        });
        GC.KeepAlive(scores);
    }

    /// <summary>Replaces the gradient of the weights by that of the scores: p (dp - sum of p dp).</summary>
    /// <param name="weights">Weights p, [..., keys], float32, contiguous.</param>
    /// <param name="gradient">Gradient dp, of the same shape; becomes the gradient of the scores.</param>
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

    /// <summary>Cross entropy of rows; the scores are replaced by their gradient, softmax - onehot.</summary>
    /// <param name="scores">Scores, [rows, vocabulary], float32, contiguous.</param>
    /// <param name="targets">Target ids, [rows], int64, on the CPU and contiguous.</param>
    /// <param name="wantsGradient">Whether the scores become the gradient; otherwise they are left undefined.</param>
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
            Scale(scores, count, (float)(1 / sum));
            scores[target] -= 1;
        }

        return Math.Log(sum) + largest - wanted;
    }

    private static float Largest(float* row, nint count) => CpuKernel.IsWide
        ? VectorFunctions.Largest<Vectors512, Vector512<float>>(row, count)
        : VectorFunctions.Largest<Vectors256, Vector256<float>>(row, count);

    // exp(x - maximum) in place, and the sum.
    private static double Exponentials(float* row, nint count, float largest) => CpuKernel.IsWide
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
