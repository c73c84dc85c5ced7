using System.Globalization;
using OpenWeights.Tune.Distributed;

namespace OpenWeights.Tune.Training;

/// <summary>Result of a run.</summary>
/// <param name="Folder">Folder of the result.</param>
/// <param name="Step">The step whose weights it contains.</param>
/// <param name="LastStep">The last completed step.</param>
public sealed record RunResult(string Folder, long Step, long LastStep)
{
    /// <summary>The step with the lowest eval loss; null if there was no evaluation.</summary>
    public long? BestStep { get; init; }

    /// <summary>The lowest eval loss; null if there was no evaluation.</summary>
    public double? BestLoss { get; init; }

    /// <summary>Whether the best step is the one with the highest eval reward, and <see cref="BestLoss"/> is its negative.</summary>
    public bool BestIsReward { get; init; }

    /// <summary>Whether the weights of that step were kept in the run's folder.</summary>
    public bool BestIsKept { get; init; }

    /// <summary>Warnings of the run; those of a run with a listener of its own went there.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>adapter or model.</summary>
    public string Name => Path.GetFileName(Path.TrimEndingDirectorySeparator(Folder));

    /// <summary>Message that a run to resume is already finished, and how to continue it.</summary>
    public string NothingToDo => string.Create(
        CultureInfo.InvariantCulture,
        $"the run is finished after {LastStep} steps, and its {Name} is in {Folder}; nothing was done. Raise training.max_steps or training.epochs to continue it");

    /// <summary>Which step the result is of, if there is a choice; otherwise null.</summary>
    public string? Choice
    {
        get
        {
            if (BestStep is null)
            {
                return null;
            }

            var least = string.Create(CultureInfo.InvariantCulture, $"{(BestIsReward ? -BestLoss : BestLoss):F4}");
            var best = BestIsReward ? "the eval reward was highest" : "the eval loss was lowest";
            return Step == BestStep ? $"the {Name} is that of step {Step} of {LastStep}, where {best} ({least})"
                : $"the {Name} is that of the last step, {LastStep}; {best} at step {BestStep} ({least}), "
                    + (BestIsKept ? "whose weights are in best" : "whose weights evaluation.keep_best would have kept");
        }
    }
}

/// <summary>Measured cost of a run, from its longest rows.</summary>
/// <param name="PeakBytes">Peak memory: of the process on a CPU, or of the GPU.</param>
/// <param name="SecondsPerStep">Seconds per step, for rows of average length.</param>
/// <param name="RunSeconds">Seconds of all steps, without evaluations and checkpoints.</param>
internal sealed record RunMeasurement(long PeakBytes, double SecondsPerStep, double RunSeconds);

/// <summary>Options for preparing a run.</summary>
/// <param name="Resume">Whether the run continues from the latest complete checkpoint in its folder; settings omitted in the config are then those it
/// was started with.</param>
/// <param name="IgnoreMemory">Whether a run that does not fit into the available memory is tried anyway; otherwise it is refused before its weights are
/// loaded.</param>
/// <param name="SettingsAlone">Whether the model's config and tokenizer are enough, and its weights may be missing.</param>
public readonly record struct RunOptions(bool Resume = false, bool IgnoreMemory = false, bool SettingsAlone = false)
{
    /// <summary>Bytes of the model that are in memory already.</summary>
    internal long Held { get; init; }

    private readonly RankGroup? _ranks;

    /// <summary>The ranks of the run; one process by default.</summary>
    internal RankGroup Ranks
    {
        get => _ranks ?? RankGroup.Alone;
        init => _ranks = value;
    }
}
