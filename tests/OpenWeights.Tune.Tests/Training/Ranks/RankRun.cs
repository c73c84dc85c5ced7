using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Tests.Distributed;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>A run of a tiny model by several ranks, which are threads of this process, and what came of it.</summary>
internal sealed record RankRun(IReadOnlyList<StepMetrics> Steps, IReadOnlyList<EvaluationMetrics> Evaluations, IReadOnlyList<string> Warnings, string? Result, string Folder)
{
    /// <summary>Micro-batches of a step, of all ranks together.</summary>
    internal const int MicroBatches = 4;

    internal double[] Losses => [.. Steps.Select(static s => s.Loss)];

    internal double[] Norms => [.. Steps.Select(static s => s.GradNorm)];

    /// <summary>Runs a config whose steps have four micro-batches, dealt out to the ranks.</summary>
    internal static RankRun Of(int ranks, RunConfig config, bool resume = false, int? stopAfter = null, int stoppedBy = 0, bool overwrite = false)
    {
        var divided = config with { Training = config.Training with { GradientAccumulationSteps = MicroBatches / ranks } };
        var listener = new SilentListener();
        string? result = null;
        void Each(OpenWeights.Tune.Distributed.RankGroup group)
        {
            using var stop = new CancellationTokenSource();
            var own = group.IsFirst ? listener : new SilentListener();
            var draft = RunDraft.Read(divided, own, new RunOptions { Resume = resume, IgnoreMemory = true, Ranks = group });
            using var run = TrainingRun.Prepare(draft, own);
            if (stopAfter is { } last && group.Rank == stoppedBy)
            {
                run.Stepped = step => { if (step == last) { stop.Cancel(); } };
            }

            var folder = run.Run(overwrite, "test", stop.Token);
            if (group.IsFirst)
            {
                result = folder;
            }
        }

        if (ranks == 1)
        {
            Each(OpenWeights.Tune.Distributed.RankGroup.Alone);
        }
        else
        {
            ThreadRanks.Run(ranks, Each);
        }

        return new RankRun(listener.Steps, listener.Evaluations, listener.Warnings, result, config.OutputDir);
    }

    /// <summary>The tensors of a safetensors file by name.</summary>
    internal static Dictionary<string, double[]> Tensors(string path)
    {
        using var file = SafetensorsFile.Open(path);
        using var scope = NewDisposeScope();
        return file.Tensors.ToDictionary(static t => t.Name, t => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(TensorFiles.Read(file, t.Name).to(float64).contiguous().bytes).ToArray());
    }

    /// <summary>The trained weights.</summary>
    internal Dictionary<string, double[]> Weights() => Tensors(Directory.EnumerateFiles(Result!, "*model.safetensors").Single());

    /// <summary>Requires that losses, gradient norms, and the weights of the result are those of a run of one process.</summary>
    internal void RequireSame(RankRun one)
    {
        Assert.That(Losses, Is.EqualTo(one.Losses).Within(1e-3).Percent, "losses");
        foreach (var (norm, wanted) in Norms.Zip(one.Norms))
        {
            // Where gradients cancel, what is left has the rounding of what was there.
            Assert.That(norm, Is.EqualTo(wanted).Within(Math.Max(1e-6, 2e-5 * wanted)), "gradient norms");
        }

        Assert.That(Steps.Select(static s => (s.Step, s.Epoch, s.Tokens, s.TargetTokens, s.LearningRate)), Is.EqualTo(one.Steps.Select(static s => (s.Step, s.Epoch, s.Tokens, s.TargetTokens, s.LearningRate))));
        var (weights, expected) = (Weights(), one.Weights());
        Assert.That(weights.Keys, Is.EqualTo(expected.Keys));
        foreach (var (name, values) in expected)
        {
            Assert.That(weights[name], Is.EqualTo(values).Within(1e-5), name);
        }
    }

    internal static RunConfig Config(TemporaryFolder folder, string name, int rows = 24) => new()
    {
        OutputDir = folder.At(name),
        Model = new ModelSection { Path = Directory.Exists(folder.At("model")) ? folder.At("model") : TinyModel.Write(folder), Device = "cpu" },
        Adapter = new AdapterSection { Rank = 4, LoraAlpha = 8 },
        Data = new DataSection { Train = [new DataSource { Path = File.Exists(folder.At($"rows{rows}.jsonl")) ? folder.At($"rows{rows}.jsonl") : TinyModel.WriteRows(folder, rows, $"rows{rows}.jsonl") }], Packing = false },
        Training = new TrainingSection { MaxSteps = 20, MicroBatchSize = 2, WarmupSteps = 1, LearningRate = 5e-3 },
        Parallel = new ParallelSection { BucketMib = 0.005 },
    };
}
