using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Extensions;
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
    public void What_a_class_of_the_users_throws_or_a_reward_cannot_judge_is_no_fault_of_the_program()
    {
        using var work = new TemporaryFolder();
        work.Write("rows.jsonl", """{"messages": [{"role": "user", "content": "Which month is May?"}, {"role": "assistant", "content": "The fifth."}]}""");
        work.Write("train.yaml", $"output_dir: run\nmodel: {{ path: {Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base")} }}\nadapter: {{ r: 2 }}\ndata: {{ train: rows.jsonl }}\ntraining: {{ max_steps: 2 }}\nevaluation: {{ generate_rows: 0 }}\n");
        var apart = Owt.Run(work.Root, ExitCode.Failed, "train", "train.yaml", $"training.lr_scheduler={typeof(FallsApart).Assembly.Location}:{nameof(FallsApart)}").Error;
        Assert.That(apart, Does.Contain("error: OpenWeights.Tune.Cli.Tests.FallsApart failed: DivideByZeroException: ").And.Not.Contain("bug in the program"));
        var judged = Owt.Run(work.Root, ExitCode.Failed, "train", "train.yaml", "--overwrite", "objective.type=grpo", "objective.num_generations=2", "objective.max_completion_length=2", "objective.rewards=[{type: number}]").Error;
        Assert.That(judged, Does.Contain("rows.jsonl:1: the reference answer has no number; name its column with the reward's field.").And.Not.Contain("bug in the program"));
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

/// <summary>A schedule that fails.</summary>
public sealed class FallsApart : IRateSchedule
{
    /// <inheritdoc/>
    public double Factor(long step, RateSettings settings) => step / (step - step);
}
