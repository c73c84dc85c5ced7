#if !TORCH_SYSTEM
using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Torch;

/// <summary>The kernels that the MKL inside the package chooses.</summary>
public sealed unsafe class MklInstructionsTests
{
    [Test]
    public void MKL_goes_by_features_on_a_processor_that_is_not_Intels()
    {
        TorchSupplier.Require();
        if (!MklInstructions.Concerns || !OperatingSystem.IsLinux() || Environment.GetEnvironmentVariable("OWT_PLAIN_MKL") is { Length: > 0 })
        {
            Assert.Ignore("This is no Linux on a processor of another maker than Intel with AVX2.");
        }

        // MKL's own answer: 0 for the kernels that any x64 processor can run, more for those of wider instructions.
        var kernels = ((delegate* unmanaged<int>)NativeLibrary.GetExport(TorchLibraries.LibTorch, "mkl_serv_cpu_detect"))();
        Assert.That(MklInstructions.AreByFeature, Is.True);
        Assert.That(kernels, Is.GreaterThan(0));
        Assert.That(TorchParts.Current().Blas, Does.Contain("by the processor's features"));
    }

    [Test]
    public void Products_of_every_small_shape_and_layout_agree_with_float64([Values] bool turnsLeft, [Values] bool turnsRight)
    {
        using var scope = NewDisposeScope();
        var generator = new Random(5);
        for (var i = 0; i < 300; i++)
        {
            var (rows, depth, columns) = (generator.Next(1, 150), generator.Next(1, 150), generator.Next(1, 150));
            using var inner = NewDisposeScope();
            var left = turnsLeft ? rand(depth, rows).sub(0.5f).t() : rand(rows, depth).sub(0.5f);
            var right = turnsRight ? rand(columns, depth).sub(0.5f).t() : rand(depth, columns).sub(0.5f);
            var off = left.mm(right).to(float64).sub(left.to(float64).mm(right.to(float64))).abs().max().ToDouble();
            Assert.That(off, Is.LessThan(1e-5), $"[{rows}, {depth}] x [{depth}, {columns}]");
        }
    }
}
#endif
