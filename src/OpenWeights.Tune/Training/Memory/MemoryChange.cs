using System.Globalization;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training.Memory;

/// <summary>A change of settings that reduces a run's memory.</summary>
/// <param name="Settings">The changed settings, as on a command line.</param>
/// <param name="Estimate">The estimate with these settings.</param>
internal sealed record MemoryChange(IReadOnlyList<string> Settings, MemoryEstimate Estimate)
{
    private const int MinLength = 128;

    /// <summary>
    /// Finds the least costly change with which a run fits. Smaller micro-batches with more accumulation give the same losses in slightly
    /// more time; checkpointing takes a fifth to a third more time; quantization changes the base model slightly; shorter rows lose data.
    /// </summary>
    /// <param name="config">The run.</param>
    /// <param name="longestRow">Its longest row, in tokens.</param>
    /// <param name="fit">Returns the estimate for given settings and longest row if it fits.</param>
    internal static MemoryChange? Find(RunConfig config, int longestRow, Func<RunConfig, int, MemoryEstimate?> fit)
    {
        var candidates = Compared(config).SelectMany(o => Candidates(config with { Objective = o.Objective }, longestRow).Select(c => (Cost: c.Cost + o.Cost, c.Config, c.Longest, Settings: o.Setting is null ? c.Settings : [.. c.Settings, o.Setting])));
        foreach (var (_, changed, longest, settings) in candidates.OrderBy(static c => c.Cost))
        {
            if (fit(changed, longest) is { } estimate)
            {
                return new MemoryChange(settings, estimate);
            }
        }

        return null;
    }

    private static IEnumerable<(int Cost, RunConfig Config, int Longest, IReadOnlyList<string> Settings)> Candidates(RunConfig config, int longestRow)
    {
        foreach (var (lengthCost, length) in Lengths(config, longestRow))
        {
            foreach (var (quantizedCost, quantization) in Quantizations(config))
            {
                foreach (var (checkpointingCost, checkpointing) in Checkpointing(config))
                {
                    foreach (var (rowsCost, rows) in Rows(config))
                    {
                        yield return Candidate(lengthCost + quantizedCost + checkpointingCost + rowsCost, config, longestRow, length, quantization, checkpointing, rows);
                    }
                }
            }
        }
    }

    private static (int, RunConfig, int, IReadOnlyList<string>) Candidate(
        int cost, RunConfig config, int longestRow, int? length, QuantizationSection? quantization, string? checkpointing, int? rows)
    {
        var (training, data, settings) = (config.Training, config.Data, new List<string>());
        void Set(string key, IFormattable value) => settings.Add(string.Create(CultureInfo.InvariantCulture, $"{key}={value}"));
        if (rows is { } count)
        {
            training = training with { MicroBatchSize = count, GradientAccumulationSteps = training.RowsAtOnce / count * training.GradientAccumulationSteps };
            Set("training.micro_batch_size", count);
            Set("training.gradient_accumulation_steps", training.GradientAccumulationSteps);
        }

        if (checkpointing is not null)
        {
            training = training with { ActivationCheckpointing = checkpointing };
            settings.Add($"training.activation_checkpointing={checkpointing}");
        }

        if (quantization is not null)
        {
            settings.Add($"quantization.type={quantization.Type}");
        }

        if (length is { } tokens)
        {
            data = data with { MaxLength = tokens };
            Set("data.max_length", tokens);
            if (!data.Packs && data.OverLength == "error")
            {
                settings.Add("data.over_length=truncate");
            }
        }

        return (cost, config with { Training = training, Data = data, Quantization = quantization ?? config.Quantization }, Math.Min(longestRow, length ?? longestRow), settings);
    }

    // Each half of the previous one, as long as the number of rows per step stays the same.
    private static IEnumerable<(int Cost, int? Rows)> Rows(RunConfig config)
    {
        yield return (0, null);
        var cost = 0;
        var rows = config.Training.RowsAtOnce;
        for (var next = Divisor(rows); next < rows; next = Divisor(rows))
        {
            rows = next;
            yield return (++cost, rows);
        }
    }

    // The largest divisor of a number that is at most its half.
    private static int Divisor(int number)
    {
        for (var divisor = 2; (long)divisor * divisor <= number; divisor++)
        {
            if (number % divisor == 0)
            {
                return number / divisor;
            }
        }

        return 1;
    }

    private static IEnumerable<(int Cost, string? Checkpointing)> Checkpointing(RunConfig config)
    {
        yield return (0, null);
        if (config.Training.Checkpointing == ActivationCheckpointing.None)
        {
            yield return (40, "selective");
        }

        if (config.Training.Checkpointing != ActivationCheckpointing.Block)
        {
            yield return (60, "block");
        }
    }

    private static IEnumerable<(int Cost, QuantizationSection? Quantization)> Quantizations(RunConfig config)
    {
        yield return (0, null);
        if (config.Adapter is not null && config.Quantization is null)
        {
            yield return (200, new QuantizationSection());
        }
    }

    // A reference that is computed before training takes no memory while training, and only some time before.
    private static IEnumerable<(int Cost, ObjectiveSection Objective, string? Setting)> Compared(RunConfig config)
    {
        var objective = config.Objective;
        yield return (0, objective, null);
        if (objective is { Type: "dpo" or "kto" or "bco", PrecomputeRefLogProbs: false, SyncRefModel: false, ReferenceFree: false })
        {
            yield return (3, objective with { PrecomputeRefLogProbs = true }, "objective.precompute_ref_log_probs=true");
        }

        if (objective is { Type: "distill", TeacherQuantization: "none" })
        {
            yield return (100, objective with { TeacherQuantization = "nf4" }, "objective.teacher_quantization=nf4");
        }
    }

    private static IEnumerable<(int Cost, int? Length)> Lengths(RunConfig config, int longestRow)
    {
        yield return (0, null);
        var cost = 0;
        for (var length = longestRow / 2; length >= MinLength; length /= 2)
        {
            yield return (cost += 400, length);
        }
    }
}
