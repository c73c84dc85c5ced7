using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Benchmarks;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Benchmarks;

/// <summary>The loading benchmark, small.</summary>
public sealed class LoadingBenchmarkTests
{
    [Test]
    public void A_checkpoint_of_about_the_asked_size_is_read_and_loaded_and_gone_afterwards()
    {
        const int Small = 8 << 20, Large = 128 << 20;
        using var folder = new TemporaryFolder();
        var (small, large) = (Run(Small), Run(Large));
        Assert.Multiple(() =>
        {
            Assert.That((double)small.FileBytes, Is.EqualTo(Small).Within(20).Percent);
            Assert.That((double)large.FileBytes, Is.EqualTo(Large).Within(20).Percent);

            // What is timed is the bytes: no reading is faster than memory can be copied.
            foreach (var (what, of) in new (string, Func<LoadingBenchmarkResult, double>)[] { ("read", static r => r.ReadSeconds), ("read afresh", static r => r.FreshReadSeconds), ("loaded", static r => r.LoadSeconds) })
            {
                Assert.That(of(large), Is.GreaterThan(0), what);
                Assert.That(large.FileBytes / of(large), Is.LessThan(1e12), what);
            }

            // The files' bytes go straight into the tensors: the model is not in memory twice.
            Assert.That(large.PeakMemoryBytes, Is.LessThan(1.5 * large.FileBytes));
        });
        Assert.That(folder.At("bench"), Does.Not.Exist);

        LoadingBenchmarkResult Run(long bytes) => LoadingBenchmark.Run(bytes, bfloat16, bfloat16, CPU, folder.At("bench"));
    }

    [Test]
    public void A_folder_that_is_there_already_is_left_alone()
    {
        using var folder = new TemporaryFolder();
        folder.Write("kept/file.txt", "mine");
        Assert.That(() => LoadingBenchmark.Run(1 << 20, float32, float32, CPU, folder.At("kept")), Throws.InstanceOf<IOException>());
        Assert.That(File.ReadAllText(folder.At("kept", "file.txt")), Is.EqualTo("mine"));
    }
}
