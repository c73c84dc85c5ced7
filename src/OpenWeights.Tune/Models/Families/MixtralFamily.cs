using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Mixtral (Jiang et al., 2024): Mistral with a mixture of experts in every layer.</summary>
internal sealed class MixtralFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Mixtral;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts);
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int("num_experts_per_tok", Facts.Experts!.PerToken),
            Router = new RouterSettings { Normalizes = true },
            Experts = config.Experts(decoder, Facts.Experts, "num_local_experts", decoder.FeedForward.Inner),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        config.Require("router_jitter_noise", config.Number("router_jitter_noise", 0) == 0, "router jitter noise is not supported; set it to 0.0.");
        var windowed = decoder.WithWindows(config.OptionalInt("sliding_window"), LayerTypes.Read(config, decoder.LayerCount, static _ => true));
        return windowed.WithMixture(mixture, static _ => true) with { RouterLossWeight = config.RouterLossWeight() };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(this, shape, ("num_experts_per_tok", shape.ExpertsPerToken), ("num_local_experts", shape.Experts), ("sliding_window", null));
    }
}
