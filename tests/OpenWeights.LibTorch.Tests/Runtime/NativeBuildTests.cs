using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.LibTorch.Tests.Runtime;

/// <summary>native/build.sh says what it lacks.</summary>
public sealed class NativeBuildTests
{
    private string _folder = null!;

    [SetUp]
    public void Make()
    {
        if (OperatingSystem.IsWindows())
        {
            Assert.Ignore("the native part is not built on Windows");
        }

        _folder = Directory.CreateTempSubdirectory("native build ").FullName;
    }

    [TearDown]
    public void Remove()
    {
        if (_folder is not null)
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [Test]
    public void A_folder_without_libtorch_is_named()
    {
        var (status, errors) = Build(new() { ["LIBTORCH"] = _folder });
        Assert.That(status, Is.EqualTo(1));
        Assert.That(errors.TrimEnd().Split('\n'), Has.Length.EqualTo(1));
        Assert.That(errors, Does.StartWith("build.sh: error: there is no libtorch").And.Contain(_folder).And.Contain("LIBTORCH"));
    }

    [Test]
    public void A_missing_compiler_is_told_with_what_to_install()
    {
        var tools = Directory.CreateDirectory(Path.Combine(_folder, "tools")).FullName;
        foreach (var tool in new[] { "dirname", "uname", "sed", "grep", "nm", "mkdir", "rm", "cat", "mv", "basename" })
        {
            var found = Environment.GetEnvironmentVariable("PATH")!.Split(':').Select(folder => Path.Combine(folder, tool)).FirstOrDefault(File.Exists);
            if (found is not null)
            {
                _ = File.CreateSymbolicLink(Path.Combine(tools, tool), found);
            }
        }

        var (status, errors) = Build(new() { ["PATH"] = tools, ["CXX"] = null });
        Assert.That(status, Is.EqualTo(1));
        Assert.That(errors, Does.StartWith("build.sh: error: no C++ compiler was found.").And.Contain("apt-get install g++"));
    }

    [Test]
    public void A_compiler_that_fails_is_named_and_leaves_nothing()
    {
        var (status, errors) = Build(new() { ["CXX"] = "false" });
        Assert.That(status, Is.EqualTo(1));
        Assert.That(errors, Does.Contain("build.sh: error: false could not build the native part against the libtorch in "));
        Assert.That(Directory.GetFiles(_folder), Is.Empty);
    }

    private (int Status, string Errors) Build(Dictionary<string, string?> environment)
    {
        var start = new ProcessStartInfo("/bin/sh") { RedirectStandardError = true, RedirectStandardOutput = true };
        start.ArgumentList.Add(Path.Combine(SharedFiles.Root, "src", "OpenWeights.LibTorch", "native", "build.sh"));
        start.ArgumentList.Add(Path.Combine(_folder, "library.so"));
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        _ = process.StandardOutput.ReadToEndAsync();
        var errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, errors);
    }
}
