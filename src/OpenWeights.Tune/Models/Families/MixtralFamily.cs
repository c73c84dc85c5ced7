using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Mixtral (Jiang et al., 2024): Mistral with a mixture of experts in every layer.</summary>
public sealed class MixtralFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Mixtral;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts);
        var experts = Facts.Experts!;
        var mixture = new MixtureSettings
        {
            ExpertCount = config.Int("num_local_experts", experts.Count),
            ExpertCountSetting = "num_local_experts",
            ExpertsPerToken = config.Int("num_experts_per_tok", experts.PerToken),
            Expert = decoder.FeedForward with { Names = new FeedForwardNames(experts.Gate, experts.Up, experts.Down) },
            NormalizesWeights = true,
            ModuleName = experts.Module,
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        config.Require("router_jitter_noise", config.Number("router_jitter_noise", 0) == 0, "router jitter noise is not supported; set it to 0.0.");
        var windowed = decoder.WithWindows(config.OptionalInt("sliding_window"), LayerTypes.Read(config, decoder.LayerCount, static _ => true));
        return windowed with
        {
            Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => windowed.Layer(i) with { FeedForward = mixture })],
            RouterLossWeight = config.RouterLossWeight(),
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(this, shape, ("num_experts_per_tok", shape.ExpertsPerToken), ("num_local_experts", shape.Experts), ("sliding_window", null));
    }
}
