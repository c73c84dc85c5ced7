using OpenWeights.Tune.Configuration;

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

    /// <summary>The settings of a config's section.</summary>
    internal static DpoSettings Of(ObjectiveSection section)
    {
        var types = section.LossType?.Values ?? ["sigmoid"];
        return new DpoSettings
        {
            Losses = [.. types.Select((type, i) => (type, i < section.LossWeights.Count ? section.LossWeights[i] : 1))],
            Pair = new PairLossSettings
            {
                Beta = section.Beta ?? 0.1,
                LabelSmoothing = section.LabelSmoothing,
                Divergence = section.FDivergenceType,
                AlphaDivergence = section.FAlphaDivergenceCoef,
                DiscoPopTau = section.DiscopopTau,
            },
            LengthAlpha = section.LdAlpha,
            UseWeighting = section.UseWeighting,
        };
    }
}
