namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>Settings of direct preference optimization, with TRL's names.</summary>
internal sealed record DpoSettings
{
    /// <summary>loss_type and loss_weights.</summary>
    internal IReadOnlyList<(string Type, double Weight)> Losses { get; init; } = [("sigmoid", 1)];

    /// <summary>Settings of the losses.</summary>
    internal PairLossSettings Pair { get; init; } = new();

    /// <summary>ld_alpha: weight of the tokens beyond the length of the shorter answer; null for 1 (LD-DPO; Liu et al., 2024).</summary>
    internal double? LengthAlpha { get; init; }

    /// <summary>use_weighting: pairs are weighted by the policy's probability of their answers (WPO; Zhou et al., 2024).</summary>
    internal bool UseWeighting { get; init; }
}
