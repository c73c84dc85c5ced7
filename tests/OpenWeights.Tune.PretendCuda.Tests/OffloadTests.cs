using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Tests;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.PretendCuda.Tests;

/// <summary>What waits in the CPU's memory changes nothing but where it is.</summary>
public sealed class OffloadTests
{
    [TestCase("adamw", "float32", true)]
    [TestCase("adamw", "bfloat16", false)]
    [TestCase("adamw_8bit", "float32", false)]
    public void The_optimizers_state_waits_on_the_cpu_and_the_run_is_the_same(string optimizer, string dtype, bool adapter)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 24);
        List<StepMetrics> Steps(string offload, int steps, bool resume)
        {
            using var stop = new CancellationTokenSource();
            var listener = new SilentListener
            {
                OnStep = step =>
                {
                    if (step.Step == steps)
                    {
                        stop.Cancel();
                    }
                },
            };
            var config = new RunConfig
            {
                OutputDir = folder.At(offload),
                Model = new ModelSection { Path = folder.At("model"), Device = "cuda", Dtype = dtype },
                Adapter = adapter ? new AdapterSection { Rank = 4, LoraDropout = 0.1 } : null,
                Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Eval = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
                Training = new TrainingSection { MaxSteps = 5, MicroBatchSize = 3, LearningRate = 5e-3, WarmupSteps = 1, Optimizer = optimizer, Offload = offload },
                Checkpoint = new CheckpointSection { EverySteps = 2 },
                Evaluation = new EvaluationSection { EverySteps = 2 },
            };
            using var run = TrainingRun.Prepare(config, listener, new RunOptions(Resume: resume));
            _ = run.Run(overwrite: false, "test", stop.Token);
            return listener.Steps;
        }

        var there = Steps("none", 5, resume: false);
        var here = Steps("optimizer", 3, resume: false);
        here.AddRange(Steps("optimizer", 5, resume: true));
        Assert.That(here.Select(static s => s.Step), Is.EqualTo(there.Select(static s => s.Step)));
        Assert.That(here.Select(static s => s.Loss), Is.EqualTo(there.Select(static s => s.Loss)).Within(dtype == "float32" ? 1e-5 : 1e-2));
    }
}
