using System.Text.Json.Nodes;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>
/// Binary classifier optimization (Jung et al., 2024), as TRL's BCOTrainer without density-ratio weights: rewards are shifted by the mean of all
/// rewards so far, those of the micro-batch included.
/// </summary>
internal sealed class BcoObjective(double beta, IReferencePolicy reference) : LabelledObjective(beta, reference)
{
    private double _sum;
    private long _count;

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

    private protected override Tensor Losses(Tensor rewards, Tensor desired)
    {
        // An evaluation uses the mean of training.
        var shift = _sum;
        if (is_grad_enabled())
        {
            (_sum, _count) = (_sum + rewards.detach().sum().ToDouble(), _count + rewards.size(0));
            shift = _sum;
        }

        var shifted = rewards.sub(shift / Math.Max(1, _count));
        return PairLosses.LogSigmoid(where(desired, shifted, shifted.neg())).neg();
    }
}
