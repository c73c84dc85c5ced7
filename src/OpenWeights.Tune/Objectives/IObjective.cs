using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>A training objective.</summary>
public interface IObjective
{
    /// <summary>
    /// The loss summed over the batch's targets, a float32 scalar with a graph. The trainer divides by the number of targets of the whole step.
    /// </summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="batch">A batch with at least one target.</param>
    Tensor LossSum(CausalLanguageModel model, TokenBatch batch);
}

/// <summary>The objectives by config name. To add one, add its file and a line here.</summary>
public static class ObjectiveKinds
{
    private static readonly Dictionary<string, Func<ObjectiveSection, IObjective>> s_kinds = new()
    {
        ["sft"] = static settings => new SupervisedObjective(settings),
    };

    /// <summary>The valid config names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_kinds.Keys];

    /// <summary>Creates the objective named in the settings.</summary>
    /// <param name="settings">Settings of the objective.</param>
    /// <exception cref="ConfigException">The name is unknown.</exception>
    public static IObjective Create(ObjectiveSection settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return s_kinds.TryGetValue(settings.Type, out var create) ? create(settings)
            : throw new ConfigException([new ConfigProblem("", "objective.type", $"'{settings.Type}' is not an objective; valid are {string.Join(", ", Names)}.{Spelling.DidYouMean(settings.Type, Names)}")]);
    }
}
