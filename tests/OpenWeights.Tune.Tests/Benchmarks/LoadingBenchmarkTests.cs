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
        using var folder = new TemporaryFolder();
        var result = LoadingBenchmark.Run(16 << 20, bfloat16, bfloat16, CPU, folder.At("bench"));
        Assert.That(result.FileBytes, Is.EqualTo(16 << 20).Within(20).Percent);
        Assert.That((result.ReadSeconds, result.LoadSeconds), Is.GreaterThan((0.0, 0.0)));
        Assert.That(result.Ratio, Is.EqualTo(result.LoadSeconds / result.ReadSeconds));
        Assert.That(folder.At("bench"), Does.Not.Exist);
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
