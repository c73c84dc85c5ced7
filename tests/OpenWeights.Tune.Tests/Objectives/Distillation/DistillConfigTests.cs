using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Objectives.Distillation;

/// <summary>The example config of distillation.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class DistillConfigTests
{
    [Test]
    public void The_student_agrees_with_its_teacher_on_held_back_rows()
    {
        using var folder = new TemporaryFolder();
        _ = Run("quickstart", $"output_dir={folder.At("teacher")}", "evaluation.generate_rows=0", "evaluation.every_steps=0", "data.eval_fraction=0", "training.max_steps=75");
        var evaluations = Run("distill", $"output_dir={folder.At("student")}", $"objective.teacher={folder.At("teacher")}", "evaluation.every_steps=10", "data.eval.0.limit=60").Evaluations;
        var (first, last) = (evaluations[0].Objective["eval_teacher_agreement"], evaluations[^1].Objective["eval_teacher_agreement"]);
        TestContext.Out.WriteLine($"agreement {first:P1} after ten steps, {last:P1} at the end; divergence {evaluations[0].Loss:F3} and {evaluations[^1].Loss:F3}");
        Assert.That(first, Is.LessThan(0.7));
        Assert.That(last, Is.GreaterThan(0.95));
        Assert.That(evaluations[^1].Loss, Is.LessThan(evaluations[0].Loss / 5));
    }

    private static SilentListener Run(string name, params string[] overrides)
    {
        var listener = new SilentListener();
        using var run = TrainingRun.Prepare(RunConfigFile.Read(Path.Combine(SharedFiles.Root, "configs", $"{name}.yaml"), overrides), listener, new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
        return listener;
    }
}
