using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>
/// What a preference loss computes with: log-probabilities of the answers of a micro-batch's pairs, summed over their tokens. All tensors are
/// float64, [pairs].
/// </summary>
/// <param name="Chosen">Of the policy, chosen answers.</param>
/// <param name="Rejected">Of the policy, rejected answers.</param>
/// <param name="ChosenReference">Of the reference, chosen answers; 0 without a reference.</param>
/// <param name="RejectedReference">Of the reference, rejected answers; 0 without a reference.</param>
/// <param name="ChosenLengths">Number of tokens of the chosen answers.</param>
/// <param name="RejectedLengths">Number of tokens of the rejected answers.</param>
internal sealed record PairScores(Tensor Chosen, Tensor Rejected, Tensor ChosenReference, Tensor RejectedReference, Tensor ChosenLengths, Tensor RejectedLengths)
{
    /// <summary>Log-ratio of the chosen answers, policy to reference.</summary>
    internal Tensor ChosenRatio { get; } = Chosen.sub(ChosenReference);

    /// <summary>Log-ratio of the rejected answers, policy to reference.</summary>
    internal Tensor RejectedRatio { get; } = Rejected.sub(RejectedReference);
}
