using OpenWeights.Testing;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Settings that must not change what is learned share one trajectory.</summary>
[Category(TestDevice.Parity)]
public sealed class InvarianceTests
{
    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Eight_rows_at_once_are_eight_accumulated_single_rows()
    {
        using var folder = new TemporaryFolder();
        var together = Losses(folder, "together", static c => c with { Training = c.Training with { MicroBatchSize = 8, GradientAccumulationSteps = 1 } });
        var alone = Losses(folder, "alone", static c => c with { Training = c.Training with { MicroBatchSize = 1, GradientAccumulationSteps = 8 } });
        Assert.That(alone, Is.EqualTo(together).Within(2e-6));
    }

    [Test]
    public void Packed_rows_are_the_rows_themselves()
    {
        using var folder = new TemporaryFolder();

        // All rows in every step, so that packing cannot change which rows a step has.
        var unpacked = Losses(folder, "unpacked", static c => c with { Training = c.Training with { MicroBatchSize = 24, GradientAccumulationSteps = 1 } });
        var packed = Losses(folder, "packed", static c => c with
        {
            Training = c.Training with { MicroBatchSize = 24, GradientAccumulationSteps = 1 },
            Data = c.Data with { Packing = true, MaxLength = 40 },
        });
        Assert.That(packed, Is.EqualTo(unpacked).Within(2e-6));
    }

    [TestCase("block", "none")]
    [TestCase("selective", "none")]
    [TestCase("selective", "activations")]
    public void Activation_checkpointing_changes_no_number(string checkpointing, string offload)
    {
        using var folder = new TemporaryFolder();
        var kept = Losses(folder, "kept", static c => c with { Adapter = c.Adapter! with { LoraDropout = 0.2 } });
        var recomputed = Losses(folder, "recomputed", c => c with
        {
            Adapter = c.Adapter! with { LoraDropout = 0.2 },
            Training = c.Training with { ActivationCheckpointing = checkpointing, Offload = offload },
        });
        Assert.That(recomputed, Is.EqualTo(kept));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void The_same_seed_gives_the_same_run_and_another_seed_another()
    {
        using var folder = new TemporaryFolder();
        var first = Losses(folder, "first", static c => c with { Seed = 5 });
        Assert.That(Losses(folder, "second", static c => c with { Seed = 5 }), Is.EqualTo(first));
        Assert.That(Losses(folder, "third", static c => c with { Seed = 6 }), Is.Not.EqualTo(first));
    }

    [TestCase("block")]
    [TestCase("selective")]
    public void Full_training_checkpointed_and_not_is_the_same(string checkpointing)
    {
        using var folder = new TemporaryFolder();
        var kept = Losses(folder, "kept", static c => c with { Adapter = null });
        var recomputed = Losses(folder, "recomputed", c => c with { Adapter = null, Training = c.Training with { ActivationCheckpointing = checkpointing } });
        Assert.That(recomputed, Is.EqualTo(kept));
    }

    private static double[] Losses(TemporaryFolder folder, string name, Func<RunConfig, RunConfig> change)
    {
        if (!Directory.Exists(folder.At("model")))
        {
            TinyModel.Write(folder);
            TinyModel.WriteRows(folder, 24);
        }

        var config = change(new RunConfig
        {
            OutputDir = folder.At(name),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
            Adapter = new AdapterSection { Rank = 4, LoraAlpha = 8 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 6, WarmupSteps = 1, LearningRate = 5e-3 },
        });
        var listener = new SilentListener();
        using var run = TrainingRun.Prepare(config, listener);
        Assert.That(run.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
        return [.. listener.Steps.SelectMany(static s => new[] { s.Loss, s.GradNorm })];
    }
}
