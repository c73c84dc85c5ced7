using System.Globalization;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Training;

/// <summary>Advice on training with preferences: what is told before a run, and what its metrics show at the end.</summary>
internal sealed class PreferenceWatch
{
    // Number of steps whose mean is compared.
    private const int Window = 10;

    // A margin that large means that the loss has saturated.
    private const double LargeMargin = 20;

    private readonly List<IReadOnlyDictionary<string, double>> _first = [];
    private readonly Queue<IReadOnlyDictionary<string, double>> _last = [];

    /// <summary>A warning if the weights of kto do not fit the numbers of desirable and undesirable answers; null if they do.</summary>
    /// <param name="objective">The objective.</param>
    /// <param name="train">The training rows.</param>
    internal static string? Balance(ObjectiveSection objective, DataSet train)
    {
        if (objective is not { Type: "kto", UndesirableWeight: > 0 })
        {
            return null;
        }

        var (desired, undesired) = (train.CountOf(RowRole.Desired) + train.CountOf(RowRole.Chosen), train.CountOf(RowRole.Undesired) + train.CountOf(RowRole.Rejected));
        var ratio = objective.DesirableWeight * desired / (objective.UndesirableWeight * undesired);
        return undesired == 0 || ratio is >= 1 and <= 4.0 / 3 ? null : string.Create(
            CultureInfo.InvariantCulture,
            $"there are {desired} desirable and {undesired} undesirable answers, so that desirable_weight x desirable is {ratio:0.##} times undesirable_weight x undesirable; KTO works best between 1 and 1.33. Set objective.desirable_weight between {undesired * objective.UndesirableWeight / Math.Max(1, desired):0.##} and {4.0 / 3 * undesired * objective.UndesirableWeight / Math.Max(1, desired):0.##}.");
    }

    /// <summary>Adds a step.</summary>
    internal void Add(IReadOnlyDictionary<string, double> metrics)
    {
        if (_first.Count < Window)
        {
            _first.Add(metrics);
        }

        _last.Enqueue(metrics);
        if (_last.Count > Window)
        {
            _ = _last.Dequeue();
        }
    }

    /// <summary>What the steps show, with what to try.</summary>
    internal IEnumerable<string> Advice()
    {
        if (Fall("logps/chosen") is var (chosenBefore, chosenAfter) && chosenAfter < chosenBefore
            && Fall("logps/rejected") is var (rejectedBefore, rejectedAfter) && rejectedAfter < rejectedBefore)
        {
            yield return string.Create(
                CultureInfo.InvariantCulture,
                $"the log-probabilities of chosen and of rejected answers both fell ({chosenBefore:F1} to {chosenAfter:F1}, {rejectedBefore:F1} to {rejectedAfter:F1}). This is usual while the margin grows; if the texts get worse, train the chosen answers too (dpo: loss_type: [sigmoid, sft]; cpo: cpo_alpha), or lower training.learning_rate.");
        }

        if (Fall("rewards/margins") is var (_, margin) && margin > LargeMargin)
        {
            yield return string.Create(CultureInfo.InvariantCulture, $"the margin of the rewards is {margin:F1}, far beyond what the loss still sees: the policy has moved far from the reference. Try fewer steps, a lower training.learning_rate, or a higher objective.beta.");
        }
    }

    private (double Before, double After)? Fall(string name) =>
        _first.Count == Window && _first[0].ContainsKey(name) && _last.All(m => m.ContainsKey(name)) ? (_first.Where(m => m.ContainsKey(name)).Average(m => m[name]), _last.Average(m => m[name])) : null;
}
