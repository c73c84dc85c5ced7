using System.Globalization;

namespace OpenWeights.Tune.Training;

/// <summary>What came of a run.</summary>
/// <param name="Folder">The folder of the result.</param>
/// <param name="Step">The step whose weights it holds.</param>
/// <param name="LastStep">The last step that was done.</param>
public sealed record RunResult(string Folder, long Step, long LastStep)
{
    /// <summary>The step with the least eval loss; null where none was measured.</summary>
    public long? BestStep { get; init; }

    /// <summary>The least eval loss; null where none was measured.</summary>
    public double? BestLoss { get; init; }

    /// <summary>Whether the weights of that step are kept in the run's folder.</summary>
    public bool BestIsKept { get; init; }

    /// <summary>adapter or model.</summary>
    public string Name => Path.GetFileName(Path.TrimEndingDirectorySeparator(Folder));

    /// <summary>That a run that is to go on has come to its end before, and what would make it go on.</summary>
    public string NothingToDo => string.Create(
        CultureInfo.InvariantCulture,
        $"the run is finished after {LastStep} steps, and its {Name} is in {Folder}; nothing was done. Raise training.max_steps or training.epochs to go on with it");

    /// <summary>Which step the result is of, where there is a choice; else null.</summary>
    public string? Choice
    {
        get
        {
            if (BestStep is null)
            {
                return null;
            }

            var least = string.Create(CultureInfo.InvariantCulture, $"{BestLoss:F4}");
            return Step == BestStep ? $"the {Name} is that of step {Step} of {LastStep}, where the eval loss was lowest ({least})"
                : $"the {Name} is that of the last step, {LastStep}; the eval loss was lowest at step {BestStep} ({least}), "
                    + (BestIsKept ? "whose weights are in best" : "whose weights evaluation.keep_best would have kept");
        }
    }
}

/// <summary>What a run was found to take, measured on its longest rows.</summary>
/// <param name="PeakBytes">The most memory that was held: of the process on a CPU, of the GPU on one.</param>
/// <param name="SecondsPerStep">How long a step of rows of the usual length takes.</param>
/// <param name="RunSeconds">How long all steps take, without evaluations and checkpoints.</param>
public sealed record RunMeasurement(long PeakBytes, double SecondsPerStep, double RunSeconds);

/// <summary>How a run is prepared.</summary>
/// <param name="Resume">Whether it will go on from its folder: what the config leaves out is then as it was when the run was started.</param>
/// <param name="RequireMemory">Whether a run that does not fit into what memory there is is refused before its weights are read.</param>
/// <param name="SettingsAlone">Whether the model's settings and tokenizer are enough, and its weights need not be there.</param>
public readonly record struct RunOptions(bool Resume = false, bool RequireMemory = false, bool SettingsAlone = false);

/// <summary>A run that cannot go on.</summary>
public sealed class TrainingFailedException : Exception
{
    /// <summary>A failure with its reason and what to do.</summary>
    public TrainingFailedException(string message)
        : base(message)
    {
    }
}
