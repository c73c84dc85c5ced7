using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Nemotron 3 and 4 (NVIDIA, 2024) and Minitron: layer norms whose scale is one plus the weight, half of each head rotated, and a feed-forward without a gate, with relu2.</summary>
internal sealed class NemotronFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Nemotron;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        // An older name of partial_rotary_factor, which transformers ignores.
        _ = config.Has("rope_percent");
        var decoder = config.Common(Facts) with { FeedForwardBias = config.Flag("mlp_bias") };
        return (decoder with { Norm = new LayerNormSettings(decoder.NormEpsilon, AddsOne: true) }).WithPlainFeedForward("up_proj", "down_proj");
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("mlp_bias", false), ("partial_rotary_factor", 0.5));
}
