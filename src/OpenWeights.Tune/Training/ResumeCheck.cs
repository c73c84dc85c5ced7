using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training;

/// <summary>Compares the config of a resumed run with the one it was started with.</summary>
internal static class ResumeCheck
{
    // Settings that change neither the order of the data nor the computation of the remaining steps.
    private static readonly string[] s_free =
    [
        "output_dir", "checkpoint", "evaluation", "parallel", "model.device", "data.cache", "data.cache_dir",
        "training.activation_checkpointing", "training.offload", "training.worst_batch_first", "training.non_finite",
    ];

    // Settings that may differ if their product, the number of rows per step, stays the same.
    private static readonly string[] s_ofStep = ["training.micro_batch_size", "training.gradient_accumulation_steps"];

    // Settings that change the rest of the run in a way a user may intend.
    private static readonly string[] s_told = ["training.max_steps", "training.epochs"];

    /// <summary>Reports differences, and throws if a setting differs that may not.</summary>
    /// <exception cref="ConfigException">A setting differs that completed steps depend on.</exception>
    internal static void Run(string startedWith, RunConfig config, Action<string> warn, (int Before, int Now)? ranks = null)
    {
        if (!File.Exists(startedWith))
        {
            return;
        }

        var started = RunConfigFile.Read(startedWith, []);
        var (before, now) = (Settings(started), Settings(config));
        var (ranksBefore, ranksNow) = ranks ?? (1, 1);
        var (rowsBefore, rowsNow) = (RowsOfStep(started) * ranksBefore, RowsOfStep(config) * ranksNow);
        var different = before.Keys.Union(now.Keys).Where(k => before.GetValueOrDefault(k) != now.GetValueOrDefault(k) && !StartsWithAny(k, s_free)).ToList();
        string Change(string key) => $"{before.GetValueOrDefault(key) ?? "(left out)"} when the run was started, {now.GetValueOrDefault(key) ?? "(left out)"} now";
        var refused = different.Where(k => !StartsWithAny(k, s_told) && !s_ofStep.Contains(k)).Select(k => new ConfigProblem(startedWith, k, Change(k) + "; a run cannot be resumed with another value.")).ToList();
        if (rowsBefore != rowsNow)
        {
            // Each setting may differ; the problem is their product.
            var key = different.Find(s_ofStep.Contains) ?? s_ofStep[0];
            var product = ranksBefore == 1 && ranksNow == 1 ? "training.micro_batch_size x training.gradient_accumulation_steps is" : $"training.micro_batch_size x training.gradient_accumulation_steps x {ranksNow} ranks ({ranksBefore} when the run was started) is";
            refused.Add(new ConfigProblem(startedWith, key, $"{(different.Contains(key) ? $"{Change(key)}; " : "")}the number of rows per step must stay {rowsBefore}, but {product} now {rowsNow}."));
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

    // All settings by dotted name, as written in the run's folder.
    private static Dictionary<string, string> Settings(RunConfig config)
    {
        var settings = new Dictionary<string, string>();
        void Add(string prefix, object? value)
        {
            if (value is not null && SettingInfo.IsSection(value.GetType()))
            {
                foreach (var setting in SettingInfo.OfSection(value))
                {
                    Add(prefix.Length == 0 ? setting.Key : $"{prefix}.{setting.Key}", setting.Get(value));
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
