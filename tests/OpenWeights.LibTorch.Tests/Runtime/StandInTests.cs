using System.Diagnostics;
using NUnit.Framework;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Runtime;

/// <summary>Libraries that libtorch names and takes nothing from.</summary>
[Platform("Linux")]
public sealed class StandInTests
{
    [Test]
    public void What_is_left_out_is_in_the_process_as_an_empty_library_and_brings_nothing_along()
    {
        using (ones([1]))
        {
            var leftOut = LibTorchRuntime.LeftOut;
            if (leftOut.Count == 0)
            {
                Assert.Ignore("this libtorch takes something from every library that it names");
            }

            var loaded = Process.GetCurrentProcess().Modules.Cast<ProcessModule>().Select(static m => m.FileName).ToList();
            foreach (var name in leftOut)
            {
                Assert.That(loaded.Where(file => Path.GetFileName(file) == name).Select(static file => Path.GetFileName(Path.GetDirectoryName(file))), Is.All.EndsWith(".unused"), name);
            }

            Assert.That(loaded, Has.Count.LessThan(200), "Debian's libtorch names OpenCV and FFmpeg, and they 250 more");
        }
    }

    [Test]
    public void What_needs_those_that_stay_works()
    {
        using var scope = NewDisposeScope();
        _ = random.manual_seed(1);
        var square = randn([40, 40], float64);

        // OpenBLAS, LAPACK, oneDNN (the product in bfloat16) and SLEEF.
        Assert.That(square.mm(square).sub(square.unsqueeze(2).mul(square.unsqueeze(0)).sum(1)).abs().max().item<double>(), Is.LessThan(1e-10));
        Assert.That(square.to(bfloat16).mm(square.to(bfloat16)).to(float64).sub(square.mm(square)).abs().max().item<double>(), Is.LessThan(0.5));
        Assert.That(square.exp().log().sub(square).abs().max().item<double>(), Is.LessThan(1e-12));
    }
}
