using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>Runs some work with the functions written in C#, and again with the composition of torch's operators beside each.</summary>
internal static class Composed
{
    /// <summary>By how much of itself a rounding to bfloat16, which keeps eight bits, moves a number at most: half a unit in the last place.</summary>
    internal const double BFloat16Rounding = 1.0 / 256;

    /// <summary>The values and the leaves' gradients of both: for the loss sum of value², so that every gradient differs.</summary>
    /// <param name="serves">What the code asks before it takes the function written in C#: it must be taken the first time, and not the second.</param>
    /// <param name="work">What is done with the leaves.</param>
    /// <param name="inputs">The leaves' values.</param>
    internal static (Tensor[] Kernel, Tensor[] Operators) Both(Func<Tensor[], bool> serves, Func<Tensor[], Tensor> work, params Tensor[] inputs)
    {
        Assert.That(CpuKernel.Enabled);
        Assert.That(serves(inputs), "the function written in C# runs");
        var kernel = Run(work, inputs);
        return (kernel, WithOperators(() =>
        {
            Assert.That(serves(inputs), Is.False, "torch's operators run");
            return Run(work, inputs);
        }));
    }

    /// <summary>
    /// Compares both: in float32 with each other, and in bfloat16 by how far each is from the operators' results in float32 for the same numbers.
    /// There the function may be further off by the two roundings of its own, of its value and, where that is what the gradient is made of, of
    /// the gradient; the operators round as often and in between too.
    /// </summary>
    internal static void RequireSame((Tensor[] Kernel, Tensor[] Operators) both, double inFloat32, Func<Tensor[], Tensor> work, params Tensor[] inputs)
    {
        if (inputs[0].dtype != bfloat16)
        {
            Assert.That(Difference(both.Kernel, both.Operators), Is.LessThan(inFloat32));
            return;
        }

        var exact = WithOperators(() => Run(work, [.. inputs.Select(static i => i.to(float32))]));
        Assert.That(Difference(both.Kernel, exact), Is.LessThanOrEqualTo(Difference(both.Operators, exact) + (2 * BFloat16Rounding)));
    }

    /// <summary>The largest difference of any value, over the largest value.</summary>
    internal static double Difference(Tensor[] left, Tensor[] right) =>
        left.Zip(right, static (l, r) => l.to(float64).sub(r.to(float64)).abs().max().ToDouble() / Math.Max(1e-30, r.to(float64).abs().max().ToDouble())).Max();

    private static Tensor[] WithOperators(Func<Tensor[]> work)
    {
        CpuKernel.Enabled = false;
        try
        {
            return work();
        }
        finally
        {
            CpuKernel.Enabled = true;
        }
    }

    private static Tensor[] Run(Func<Tensor[], Tensor> work, Tensor[] inputs)
    {
        Tensor[] leaves = [.. inputs.Select(static i => i.detach().clone().requires_grad_())];
        var value = work(leaves);
        var exact = value.to(float32);
        exact.mul(exact.detach()).sum().backward();
        return [value.detach(), .. leaves.Select(static l => l.grad!)];
    }
}
