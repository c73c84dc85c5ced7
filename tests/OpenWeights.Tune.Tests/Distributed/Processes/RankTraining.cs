using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Distributed.Processes;

/// <summary>A run of ranks that are processes.</summary>
internal static class RankTraining
{
    /// <summary>Variable with the path of the run's YAML file.</summary>
    internal const string ConfigVariable = "OWT_TEST_RUN";

    /// <summary>Variable that says that the run is resumed.</summary>
    internal const string ResumeVariable = "OWT_TEST_RESUME";

    /// <summary>Variable with the step after which the last rank is asked to stop.</summary>
    internal const string StopVariable = "OWT_TEST_STOP";

    /// <summary>Variable with the folder that the last rank works in, and so what /proc/self/cwd is for it.</summary>
    internal const string OddFolderVariable = "OWT_TEST_ODD_FOLDER";

    /// <summary>Variable with the folder that the others work in.</summary>
    internal const string FolderVariable = "OWT_TEST_FOLDER";

    /// <summary>Variable with a setting that the last rank has otherwise.</summary>
    internal const string OddSettingVariable = "OWT_TEST_ODD_SETTING";

    /// <summary>Variable with the rank that hangs, what it does then, and how: "1 loading the model:sleep".</summary>
    internal const string HangVariable = "OWT_TEST_HANG";

    internal static void Run(RankGroup group)
    {
        var isOdd = group.Rank == group.Size - 1;
        if (Environment.GetEnvironmentVariable(isOdd ? OddFolderVariable : FolderVariable) is { } folder)
        {
            Directory.SetCurrentDirectory(folder);
        }

        if (Environment.GetEnvironmentVariable(HangVariable) is { } hang && hang.StartsWith($"{group.Rank} ", StringComparison.Ordinal))
        {
            group.Activity!.Passing = doing => Hang(group, doing, hang[2..].Split(':'));
        }

        string[] settings = isOdd && Environment.GetEnvironmentVariable(OddSettingVariable) is { } setting ? [setting] : [];
        using var recorded = enable_grad();
        using var stop = new CancellationTokenSource();
        var config = RunConfigFile.Read(Environment.GetEnvironmentVariable(ConfigVariable)!, settings);
        var last = long.Parse(Environment.GetEnvironmentVariable(StopVariable) ?? "0", System.Globalization.CultureInfo.InvariantCulture);
        using var run = TrainingRun.Prepare(config, new SilentListener(), new RunOptions { Resume = Environment.GetEnvironmentVariable(ResumeVariable) is not null, IgnoreMemory = true, Ranks = group });
        run.Stepped = step => StopAfter(step, isOdd ? last : 0, stop);
        _ = run.Run(overwrite: false, "test", stop.Token);
        RankScenarios.Say(group, run.IsStopped ? "stopped" : "trained");
    }

    private static void Hang(RankGroup group, string doing, string[] wanted)
    {
        if (doing == wanted[0])
        {
            RankScenarios.Say(group, "hangs");
        }

        while (doing == wanted[0])
        {
            Thread.Sleep(wanted[1] == "sleep" ? Timeout.Infinite : 0);
        }
    }

    private static void StopAfter(long step, long last, CancellationTokenSource stop)
    {
        if (step == last)
        {
            stop.Cancel();
        }
    }
}
