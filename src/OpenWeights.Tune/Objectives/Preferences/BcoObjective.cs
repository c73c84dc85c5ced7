using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>
/// Binary classifier optimization (Jung et al., 2024), as TRL's BCOTrainer without density-ratio weights: rewards are shifted by the mean of all
/// rewards so far, those of the micro-batch included. Several ranks, which compute micro-batches at the same time, compute the rewards of a step first.
/// </summary>
internal sealed class BcoObjective(double beta, IReferencePolicy reference) : LabelledObjective(beta, reference)
{
    private double _sum;
    private long _count;
    private IReadOnlyList<IReadOnlyList<TokenRow>> _batches = [];
    private double[]? _ahead;
    private bool _isTrained;

    /// <inheritdoc/>
    public override JsonObject? State
    {
        get
        {
            var state = base.State!;
            (state["reward_sum"], state["reward_count"]) = (_sum, _count);
            return state;
        }

        set
        {
            base.State = value;
            (_sum, _count) = (value?["reward_sum"]?.GetValue<double>() ?? 0, value?["reward_count"]?.GetValue<long>() ?? 0);
        }
    }

    /// <inheritdoc/>
    public override long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        (_batches, _isTrained) = (batches, false);
        _ahead = Ranks.IsAlone ? null : Ahead(model);
        return base.Begin(model, batches);
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> End()
    {
        // Not in an evaluation. A rank may have had no micro-batch.
        if (_ahead is { } sums && Ranks.Any(_isTrained, Device))
        {
            (_sum, _count) = (_sum + sums.Sum(), _count + _batches.Sum(static b => (long)b.Count));
        }

        (_batches, _ahead) = ([], null);
        return base.End();
    }

    // The sums of the rewards of each micro-batch, of all ranks.
    private double[] Ahead(CausalLanguageModel model)
    {
        var sums = new double[_batches.Count];
        foreach (var (batch, isOwn) in Ranks.Passes([.. Enumerable.Range(0, _batches.Count)], model))
        {
            var sum = RewardSum(model, _batches[batch]);
            sums[batch] += isOwn ? sum : 0;
        }

        return Ranks.Add(sums, Device);
    }

    private protected override Tensor Losses(IReadOnlyList<TokenRow> rows, Tensor rewards, Tensor desired)
    {
        // An evaluation uses the mean of training.
        var (sum, count) = (_sum, _count);
        if (is_grad_enabled() && _ahead is { } sums)
        {
            _isTrained = true;
            var upTo = Enumerable.Range(0, _batches.Count).First(i => ReferenceEquals(_batches[i], rows)) + 1;
            (sum, count) = (sum + sums.Take(upTo).Sum(), count + _batches.Take(upTo).Sum(static b => (long)b.Count));
        }
        else if (is_grad_enabled())
        {
            (sum, count) = (_sum, _count) = (_sum + rewards.detach().sum().ToDouble(), _count + rewards.size(0));
        }

        var shifted = rewards.sub(sum / Math.Max(1, count));
        return PairLosses.LogSigmoid(where(desired, shifted, shifted.neg())).neg();
    }
}
