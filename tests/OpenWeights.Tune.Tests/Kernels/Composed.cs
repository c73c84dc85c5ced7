using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>Runs some work with the functions written in C#, and again with the composition of torch's operators beside each.</summary>
internal static class Composed
{
    /// <summary>The values and the leaves' gradients of both: for the loss sum of value², so that every gradient differs.</summary>
    internal static (Tensor[] Kernel, Tensor[] Operators) Both(Func<Tensor[], Tensor> work, params Tensor[] inputs)
    {
        Assume();
        try
        {
            var kernel = Run(work, inputs);
            CpuKernel.Enabled = false;
            return (kernel, Run(work, inputs));
        }
        finally
        {
            CpuKernel.Enabled = true;
        }
    }

    /// <summary>The largest difference of any value, over the largest value.</summary>
    internal static double Difference(Tensor[] left, Tensor[] right) =>
        left.Zip(right, static (l, r) => l.to(float64).sub(r.to(float64)).abs().max().ToDouble() / Math.Max(1e-30, r.to(float64).abs().max().ToDouble())).Max();

    private static void Assume() => NUnit.Framework.Assert.That(CpuKernel.Enabled);

    private static Tensor[] Run(Func<Tensor[], Tensor> work, Tensor[] inputs)
    {
        Tensor[] leaves = [.. inputs.Select(static i => i.detach().clone().requires_grad_())];
        var value = work(leaves);
        var exact = value.to(float32);
        exact.mul(exact.detach()).sum().backward();
        return [value.detach(), .. leaves.Select(static l => l.grad!)];
    }
}
