using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Tests;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.MicrosoftAI.Tests;

/// <summary>The quickstart's base model, and an adapter that a few steps have trained on it.</summary>
internal static class QuickstartAdapter
{
    internal static readonly string Base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    /// <summary>Trains an adapter in a folder for a run; gives its folder.</summary>
    /// <param name="run">The run's folder.</param>
    /// <param name="rows">The rows to train on; null for the quickstart's.</param>
    /// <param name="steps">Number of steps.</param>
    internal static string Train(string run, string? rows = null, int steps = 12)
    {
        var config = new RunConfig
        {
            OutputDir = run,
            Model = new ModelSection { Path = Base },
            Adapter = new AdapterSection { Rank = 8, LoraAlpha = 16 },
            Data = new DataSection { Train = [new DataSource { Path = rows ?? Path.Combine(SharedFiles.Root, "datasets", "quickstart", "train.jsonl") }] },
            Training = new TrainingSection { MaxSteps = steps, LearningRate = 2e-3 },
        };
        using var prepared = TrainingRun.Prepare(config, new SilentListener());
        _ = prepared.Run(overwrite: false, command: "test", CancellationToken.None);
        return Path.Combine(run, "adapter");
    }
}
