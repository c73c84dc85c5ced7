using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Mixtral (Jiang et al., 2024): Mistral with a mixture of experts in every layer.</summary>
public sealed class MixtralFamily : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new() { KeyValueHeads = 8, MaxPositions = 4096 * 32, NormEpsilon = 1e-5, RopeTheta = 1e6 };

    /// <inheritdoc/>
    public string ModelType => "mixtral";

    /// <inheritdoc/>
    public string Architecture => "MixtralForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(ModelType, s_defaults);
        var mixture = new MixtureConfig
        {
            ExpertCount = config.Int("num_local_experts", 8),
            ExpertCountSetting = "num_local_experts",
            ExpertsPerToken = config.Int("num_experts_per_tok", 2),
            IntermediateSize = new Dimension("intermediate_size", decoder.IntermediateSize),
            NormalizesWeights = true,
            ModuleName = "block_sparse_moe",
            ExpertNames = new FeedForwardNames("w1", "w3", "w2"),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        config.Require("router_jitter_noise", config.Number("router_jitter_noise", 0) == 0, "router jitter noise is not supported; set it to 0.0.");
        var windowed = decoder.WithWindows(config.OptionalInt("sliding_window"), LayerTypes.Read(config, decoder.LayerCount, static _ => true));
        return windowed with
        {
            Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => windowed.Layer(i) with { Mixture = mixture })],
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
