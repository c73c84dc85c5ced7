using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>What is told where torch cannot be loaded, whoever found out.</summary>
[NonParallelizable]
public sealed class FailuresTests
{
    // The exception as TorchSharp 0.107 throws it, its trace shortened.
    private static readonly TypeInitializationException s_torchSharps = new("TorchSharp.torch", new NotSupportedException(
        "This application or script uses TorchSharp but doesn't contain a reference to libtorch-cpu-linux-x64, Version=2.10.0.0.\n\nConsider referencing one of the combination packages.\n\nTrace from LoadNativeBackend:\n\nStep 1"));

    [Test]
    public void What_TorchSharps_own_constructor_throws_is_one_line_without_its_trace()
    {
        var (code, error) = Report(s_torchSharps, verbose: false);
        Assert.That(code, Is.EqualTo(ExitCode.Failed));
        Assert.That(error.TrimEnd().Split('\n'), Has.Length.EqualTo(1));
        Assert.That(error, Does.StartWith("error: torch cannot be loaded: ").And.Contain("libtorch-cpu-linux-x64").And.Not.Contain("LoadNativeBackend").And.Not.Contain("bug in the program"));
        Assert.That(Report(new TypeInitializationException("OpenWeights.Tune.Something", s_torchSharps), verbose: false).Error, Is.EqualTo(error), "also where a type of ours was made first");
        Assert.That(Report(s_torchSharps, verbose: true).Error, Does.Contain("LoadNativeBackend"));
    }

    [Test]
    public void Other_types_that_fail_to_start_are_faults_of_the_program()
    {
        Assert.That(Report(new TypeInitializationException("OpenWeights.Tune.Something", new InvalidOperationException("no")), verbose: false).Error, Does.Contain("bug in the program"));
    }

    [Test]
    public void The_proof_of_a_runtime_that_no_longer_loads_is_forgotten_and_of_one_that_loads_is_kept()
    {
        using var folder = new TemporaryFolder();
        var proof = Path.Combine(folder.Root, "proof.cpu");
        File.WriteAllText(proof, "what was loaded");
        Environment.SetEnvironmentVariable("OWT_PROOF", proof);
        try
        {
            _ = Report(new InvalidDataException("a bad file"), verbose: false);
            Assert.That(File.Exists(proof), Is.True);
            Assert.That(Report(new TorchUnavailableException("gone. Do this."), verbose: false).Error.TrimEnd(), Does.StartWith("error: gone. Do this. Run the command again: "));
            Assert.That(File.Exists(proof), Is.False);
            Assert.That(Report(new TorchUnavailableException("gone. Do this."), verbose: false).Error.TrimEnd(), Is.EqualTo("error: gone. Do this."), "started without the scripts");
        }
        finally
        {
            Environment.SetEnvironmentVariable("OWT_PROOF", null);
        }
    }

    private static (int Code, string Error) Report(Exception thrown, bool verbose)
    {
        var before = Console.Error;
        using var written = new StringWriter();
        Console.SetError(written);
        try
        {
            return (Failures.Report(() => throw thrown, verbose), written.ToString());
        }
        finally
        {
            Console.SetError(before);
        }
    }
}
