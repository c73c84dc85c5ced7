using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training;

/// <summary>Compares the config that a run goes on with with the one that it was started with.</summary>
internal static class ResumeCheck
{
    // Settings that change neither the data's order nor the maths of the steps to come.
    private static readonly string[] s_free =
    [
        "output_dir", "checkpoint", "evaluation", "model.device", "data.cache", "data.cache_dir",
        "training.activation_checkpointing", "training.offload", "training.worst_batch_first", "training.non_finite",
    ];

    // Settings that may differ as long as their product, the rows of a step, is the same.
    private static readonly string[] s_ofStep = ["training.micro_batch_size", "training.gradient_accumulation_steps"];

    // Settings that change the rest of the run in a way that a user may well want.
    private static readonly string[] s_told = ["training.max_steps", "training.epochs"];

    /// <summary>Says what differs, and refuses what would make another run of it.</summary>
    /// <exception cref="ConfigException">A setting differs that the steps already done depend on.</exception>
    internal static void Run(string startedWith, RunConfig config, Action<string> warn)
    {
        if (!File.Exists(startedWith))
        {
            return;
        }

        var started = RunConfigFile.Read(startedWith, []);
        var (before, now) = (Settings(started), Settings(config));
        var (rowsBefore, rowsNow) = (RowsOfStep(started), RowsOfStep(config));
        var different = before.Keys.Union(now.Keys).Where(k => before.GetValueOrDefault(k) != now.GetValueOrDefault(k) && !StartsWithAny(k, s_free)).ToList();
        string Change(string key) => $"{before.GetValueOrDefault(key) ?? "(left out)"} when the run was started, {now.GetValueOrDefault(key) ?? "(left out)"} now";
        var refused = different.Where(k => !StartsWithAny(k, s_told) && !s_ofStep.Contains(k)).Select(k => new ConfigProblem(startedWith, k, Change(k) + "; a run cannot go on with another value.")).ToList();
        if (rowsBefore != rowsNow)
        {
            // Both settings may differ; what is wrong is their product.
            var key = different.First(s_ofStep.Contains);
            refused.Add(new ConfigProblem(startedWith, key, $"{Change(key)}; a step has {rowsBefore} rows, and must keep them: the product of training.micro_batch_size and training.gradient_accumulation_steps is {rowsNow} now."));
        }

        if (refused.Count > 0)
        {
            throw new ConfigException(refused);
        }

        foreach (var key in different)
        {
            warn($"{key}: {Change(key)}. {(s_ofStep.Contains(key) ? "Every step keeps its rows" : "The learning rate's schedule follows the new value")}.");
        }
    }

    private static long RowsOfStep(RunConfig config) => (long)config.Training.RowsAtOnce * config.Training.GradientAccumulationSteps;

    private static bool StartsWithAny(string key, string[] names) => names.Any(n => key == n || key.StartsWith(n + ".", StringComparison.Ordinal));

    // Every setting by its dotted name, as the run's folder writes it.
    private static Dictionary<string, string> Settings(RunConfig config)
    {
        var settings = new Dictionary<string, string>();
        void Add(string prefix, object? value)
        {
            if (value is not null && SettingInfo.IsSection(value.GetType()))
            {
                foreach (var setting in SettingInfo.Of(value.GetType()))
                {
                    Add(prefix.Length == 0 ? setting.Key : $"{prefix}.{setting.Key}", setting.Property.GetValue(value));
                }
            }
            else if (value is not null)
            {
                settings[prefix] = ConfigWriter.Value(value).Trim();
            }
        }

        Add("", config);
        return settings;
    }
}
