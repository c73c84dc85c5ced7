using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>A run is made of parts that are there already.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class TrainingRunTests
{
    [Test]
    public void A_run_over_a_loaded_model_reads_no_file_and_has_the_plan_that_was_made_before()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder);
        var draft = RunDraft.Read(config, new SilentListener());
        var plan = draft.Plan;
        Assert.That(draft.Plan, Is.SameAs(plan));
        var trained = draft.LoadModel(new SilentListener());
        Directory.Delete(folder.At("model"), recursive: true);
        File.Delete(folder.At("rows.jsonl"));
        using var run = new TrainingRun(draft, trained, new SilentListener());
        Assert.That(run.Plan, Is.SameAs(plan));
        Assert.That(run.Model, Is.SameAs(trained.Model));
        Assert.That(run.Plan.TotalSteps, Is.EqualTo(4));
    }

    [Test]
    public void The_plan_of_a_run_that_goes_on_says_how_many_steps_are_done()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder) with { Checkpoint = new CheckpointSection { EverySteps = 2 } };
        using (var first = TrainingRun.Prepare(config, new SilentListener()))
        {
            _ = first.Run(overwrite: false, "test", CancellationToken.None);
            Assert.That(first.Plan.StepsDone, Is.Zero, "when it began");
        }

        using var longer = TrainingRun.Prepare(config with { Training = config.Training with { MaxSteps = 6 } }, new SilentListener(), new RunOptions(Resume: true));
        _ = longer.Run(overwrite: false, "test", CancellationToken.None);
        Assert.That((longer.Plan.StepsDone, longer.Plan.TotalSteps), Is.EqualTo((4L, 6L)));
    }

    private static RunConfig Config(TemporaryFolder folder)
    {
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 8);
        return new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
            Adapter = new AdapterSection { Rank = 4 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 4, WarmupSteps = 0, MicroBatchSize = 2 },
        };
    }
}
