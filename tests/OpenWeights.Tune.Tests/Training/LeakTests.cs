using OpenWeights.Testing;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Native memory is the program's to free.</summary>
public sealed class LeakTests
{
    [TestCase(true, "none", Category = TestDevice.CpuAlone)]
    [TestCase(true, "block")]
    [TestCase(true, "selective", Category = TestDevice.CpuAlone)]
    [TestCase(false, "none")]
    public void Steps_leave_no_tensor_behind(bool adapter, string checkpointing)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 16);
        var counts = new List<long>();
        var listener = new SilentListener { OnStep = _ => counts.Add(Tensor.TotalCount) };
        var config = new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
            Adapter = adapter ? new AdapterSection { Rank = 4 } : null,
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], MaxLength = 64 },
            Training = new TrainingSection { MaxSteps = 40, ActivationCheckpointing = checkpointing },
        };
        using var run = TrainingRun.Prepare(config, listener);
        run.Run(overwrite: false, "test", CancellationToken.None);

        // A finalizer may at any time free what an earlier test forgot, so the count may fall and must not rise.
        Assert.That(counts[^1], Is.LessThanOrEqualTo(counts[5]));
    }

    [Test]
    public void A_run_that_is_disposed_leaves_no_tensor_behind()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 8);
        var config = new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
            Adapter = new AdapterSection { Rank = 4 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }] },
            Training = new TrainingSection { MaxSteps = 3 },
        };
        long After()
        {
            using (var run = TrainingRun.Prepare(config, new SilentListener()))
            {
                run.Run(overwrite: true, "test", CancellationToken.None);
            }

            return TestDevice.LiveTensors;
        }

        var first = After();
        Assert.That(After(), Is.LessThanOrEqualTo(first));
    }
}
