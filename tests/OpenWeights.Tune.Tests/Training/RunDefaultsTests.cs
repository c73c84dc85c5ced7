using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>What a config leaves out fits the data; what it says holds.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class RunDefaultsTests
{
    [TestCase(300, 3, 225, 4, false)]
    [TestCase(40, 3, 60, 2, false)]
    [TestCase(20, 1, 20, 1, false)]
    public void Few_rows_make_some_dozens_of_steps(int rows, double epochs, long steps, int atOnce, bool packed)
    {
        using var folder = new TemporaryFolder();
        var plan = Plan(folder, rows, new TrainingSection { Epochs = epochs });
        Assert.That((plan.TotalSteps, plan.Config.Training.MicroBatchSize, plan.Config.Data.Packing), Is.EqualTo((steps, (int?)atOnce, (bool?)packed)));
        Assert.That(plan.Config.Training.WarmupSteps, Is.EqualTo(Math.Min(10, steps / 10)));
        Assert.That(RunDefaults.Advice(plan), steps < 24 ? Does.Contain("training.epochs=3") : Is.Null);
    }

    [Test]
    public void Many_rows_stay_packed()
    {
        using var folder = new TemporaryFolder();
        var plan = Plan(folder, 4000, new TrainingSection(), maxLength: 100);
        Assert.That((plan.Config.Training.MicroBatchSize, plan.Config.Data.Packing, plan.Config.Training.WarmupSteps), Is.EqualTo(((int?)4, (bool?)true, (long?)10)));
        Assert.That(RunDefaults.Advice(plan), Is.Null);
    }

    [Test]
    public void What_is_said_holds_and_the_plan_says_what_to_change()
    {
        using var folder = new TemporaryFolder();
        var plan = Plan(folder, 300, new TrainingSection { MicroBatchSize = 4, WarmupSteps = 10, Epochs = 3 }, packing: true);
        Assert.That((plan.Config.Training.MicroBatchSize, plan.Config.Data.Packing, plan.Config.Training.WarmupSteps), Is.EqualTo(((int?)4, (bool?)true, (long?)10)));
        Assert.That(plan.TotalSteps, Is.LessThan(24));
        Assert.That(RunDefaults.Advice(plan), Does.Contain("data.packing=false").And.Contain("training.micro_batch_size lower").And.Contain("training.epochs="));
        Assert.That(RunDefaults.Advice(Plan(folder, 300, new TrainingSection { MaxSteps = 5 })), Is.Null, "so many were asked for");
    }

    [Test]
    public void A_run_goes_on_with_what_was_chosen_when_it_was_started()
    {
        using var folder = new TemporaryFolder();
        var started = Plan(folder, 300, new TrainingSection { Epochs = 3 }).Config;
        _ = Directory.CreateDirectory(started.OutputDir);
        File.WriteAllText(Path.Combine(started.OutputDir, "config.yaml"), ConfigWriter.Write(started));
        var longer = RunDraft.Read(Config(folder, new TrainingSection { Epochs = 1, GradientAccumulationSteps = 2 }, null, 2048), new SilentListener(), new RunOptions(Resume: true)).Config;
        Assert.That((longer.Data.Packing, longer.Training.MicroBatchSize, longer.Training.WarmupSteps), Is.EqualTo(((bool?)false, (int?)2, (long?)10)));
    }

    private static RunPlan Plan(TemporaryFolder folder, int rows, TrainingSection training, bool? packing = null, int maxLength = 2048)
    {
        if (!Directory.Exists(folder.At("model")))
        {
            TinyModel.Write(folder);
        }

        TinyModel.WriteRows(folder, rows);
        return RunDraft.Read(Config(folder, training, packing, maxLength), new SilentListener()).Plan;
    }

    private static RunConfig Config(TemporaryFolder folder, TrainingSection training, bool? packing, int maxLength) => new()
    {
        OutputDir = folder.At("run"),
        Model = new ModelSection { Path = folder.At("model"), Device = "cpu" },
        Adapter = new AdapterSection { Rank = 4 },
        Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = packing, MaxLength = maxLength },
        Training = training,
    };
}
