using System.Globalization;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Training;

/// <summary>The classes of the user's that a config names.</summary>
internal static class OwnClasses
{
    /// <summary>Those that are not there, or cannot be created.</summary>
    /// <param name="file">The config.</param>
    internal static IEnumerable<ConfigProblem> Problems(ConfigFile file) =>
        Named(file.Config).Zip(Named(file.Written)).Select(n => Problem(file, n.First, n.Second.Name)).OfType<ConfigProblem>();

    private static ConfigProblem? Problem(ConfigFile file, (string Key, string? Name, Func<string, object> Create) named, string? written)
    {
        if (named.Name is null || OwnClass.Split(named.Name) is not var (assembly, _))
        {
            return null;
        }

        if (!File.Exists(assembly))
        {
            return file.NotThere(named.Key, OwnClass.Split(written!)!.Value.Assembly);
        }

        try
        {
            (named.Create(named.Name) as IDisposable)?.Dispose();
            return null;
        }
        catch (InvalidDataException e)
        {
            return file.Problem(named.Key, e.Message, isFile: true);
        }
    }

    private static IEnumerable<(string Key, string? Name, Func<string, object> Create)> Named(RunConfig config) =>
    [
        ("objective.type", config.Objective.Type, n => OwnClass.Create<TrainingObjective>(n, config.Objective)),
        ("training.lr_scheduler", config.Training.LrScheduler, n => OwnClass.Create<IRateSchedule>(n, config.Training)),
        .. config.Evaluation.Metrics.Select((m, i) => (At("evaluation.metrics", i), (string?)m, (Func<string, object>)(n => OwnClass.Create<IAnswerMetric>(n, config.Evaluation)))),
        .. config.Data.Train.Select((s, i) => (At("data.train", i, ".format"), (string?)s.Format, (Func<string, object>)(n => OwnClass.Create<IDataFormat>(n, s)))),
        .. config.Data.Eval.Select((s, i) => (At("data.eval", i, ".format"), (string?)s.Format, (Func<string, object>)(n => OwnClass.Create<IDataFormat>(n, s)))),
        .. config.Objective.Rewards.Select((r, i) => (At("objective.rewards", i, ".type"), (string?)r.Type, (Func<string, object>)(n => OwnClass.Create<IReward>(n, r)))),
    ];

    private static string At(string list, int index, string key = "") => string.Create(CultureInfo.InvariantCulture, $"{list}.{index}{key}");
}
