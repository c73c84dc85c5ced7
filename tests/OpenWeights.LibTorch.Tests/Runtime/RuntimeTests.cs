using NUnit.Framework;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Runtime;

public sealed class RuntimeTests
{
    [Test]
    public void The_threads_are_the_processors_unless_the_environment_says_otherwise()
    {
        var asked = Environment.GetEnvironmentVariable("OMP_NUM_THREADS");
        Assert.That(get_num_threads(), Is.EqualTo(string.IsNullOrEmpty(asked) ? Environment.ProcessorCount : int.Parse(asked.Split(',')[0], System.Globalization.CultureInfo.InvariantCulture)));
    }

    [Test]
    public void The_libtorch_describes_itself()
    {
        Assert.That(LibTorchRuntime.Version, Does.Match(@"^\d+\.\d+"));
        Assert.That(LibTorchRuntime.Description, Does.Contain("at::get_num_threads").IgnoreCase);
    }

    [Test]
    public void A_blas_with_openmps_threads_is_loaded_first_where_the_distribution_has_one()
    {
        var libtorch = Path.Combine(AppContext.BaseDirectory, "libOpenWeightsTorch.so.libtorch");
        if (!OperatingSystem.IsLinux() || !File.Exists(libtorch))
        {
            Assert.Ignore("for a distribution's libtorch on Linux");
        }

        LibTorchRuntime.Load();
        var folder = File.ReadAllText(libtorch).Trim();
        var blas = Path.Combine(folder, "openblas-openmp", "libopenblas.so.0");
        Assert.That(LibTorchRuntime.PreloadedBlas, folder.StartsWith("/usr/lib", StringComparison.Ordinal) && File.Exists(blas) ? Is.EqualTo(blas) : Is.Null);
        if (LibTorchRuntime.PreloadedBlas is { } loaded)
        {
            using var scope = NewDisposeScope();
            _ = ones(300, 300).mm(ones(300, 300));
            var mapped = File.ReadAllLines("/proc/self/maps").Where(static line => line.Contains("libopenblas", StringComparison.Ordinal)).Select(static line => line[line.IndexOf('/', StringComparison.Ordinal)..]).Distinct();
            Assert.That(mapped.Single(), Does.Contain("openblas-openmp"), $"one BLAS, {loaded}");
        }
    }
}
