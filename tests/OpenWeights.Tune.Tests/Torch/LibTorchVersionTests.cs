using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Tests.Torch;

/// <summary>The version of a libtorch that does not tell it itself, from the files of an installation.</summary>
public sealed class LibTorchVersionTests
{
    // What an unpacked libtorch, a PyTorch of pip, and headers of PyTorch 1.13 have.
    [TestCase("build-version", "2.8.0+cpu\n", "2.8.0")]
    [TestCase("version.py", "from typing import Optional\n\n__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'xpu']\n__version__ = '2.7.1+cu128'\ndebug = False\n", "2.7.1")]
    [TestCase("include/torch/csrc/api/include/torch/version.h", "#pragma once\n\n/// Indicates the major version of LibTorch.\n#define TORCH_VERSION_MAJOR 1\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 1\n\n#define TORCH_VERSION \\\n  \"1.13.1\"\n", "1.13.1")]
    [TestCase("version.py", "nothing of it\n", null)]
    [TestCase("build-version", "", null)]
    [TestCase("build-version", "99999999999999999999.1.0", null)]
    public void Is_read_from_a_file_beside_it(string name, string text, string? expected)
    {
        using var folder = new TemporaryFolder();
        var file = Path.Combine(folder.Root, name);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllText(file, text);
        Directory.CreateDirectory(Path.Combine(folder.Root, "lib"));
        Assert.That(LibTorchVersion.ReadFiles(Path.Combine(folder.Root, "lib"))?.ToString(), Is.EqualTo(expected));
    }

    [Test]
    public void Is_read_from_the_headers_of_a_distribution_too()
    {
        using var folder = new TemporaryFolder();
        var header = Path.Combine(folder.Root, "include", "torch", "csrc", "api", "include", "torch", "version.h");
        Directory.CreateDirectory(Path.GetDirectoryName(header)!);
        File.WriteAllText(header, "#define TORCH_VERSION \\\n  \"1.13.1\"\n");
        Assert.That(LibTorchVersion.ReadFiles(Path.Combine(folder.Root, "lib", "x86_64-linux-gnu")), Is.EqualTo(new Version(1, 13, 1)));
    }

#if !TORCH_SYSTEM
    [TestCase(2, 9, false)]
    [TestCase(2, 10, true)]
    [TestCase(2, 12, true)]
    [TestCase(2, 13, false)]
    [TestCase(1, 13, false)]
    [TestCase(3, 10, false)]
    public void TorchSharp_computes_right_over_those_that_it_was_built_for_and_tried_with(int major, int minor, bool fits)
    {
        Assert.That(SupportedLibTorch.Fits(new Version(major, minor, 1)), Is.EqualTo(fits));
    }

    [Test]
    public void The_libtorch_of_the_package_is_the_one_that_TorchSharp_was_built_for()
    {
        Assert.That(Version.Parse(TorchSupplier.Current.Version).ToString(2), Is.EqualTo(SupportedLibTorch.Range.First.ToString()));
    }
#endif
}
