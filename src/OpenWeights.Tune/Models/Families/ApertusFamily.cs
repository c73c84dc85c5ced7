using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Apertus (Swiss AI Initiative, 2025): normalized queries and keys, and a feed-forward without a gate whose activation, xIELU, has learned parameters.</summary>
internal sealed class ApertusFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Apertus;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        // transformers' default if the config has no rotary settings.
        var rope = config.Has("rope_parameters") || config.Mentions("rope_scaling") ? null : s_rope with { Theta = config.Number("rope_theta", Facts.RopeTheta) };
        var decoder = config.Common(Facts);
        return (decoder with
        {
            Rope = rope ?? decoder.Rope,
            NormPlacement = new NormPlacement("attention_layernorm", null, "feedforward_layernorm", null),
            QueryKeyNorm = QueryKeyNorm.PerHead,
        }).WithPlainFeedForward("up_proj", "down_proj", learnsActivation: config.Text("hidden_act") is null or CommonSettings.Xielu);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false));

    private static readonly RopeConfig s_rope = new() { Kind = RopeKind.Llama3, Factor = 8, OriginalMaxPositions = 8192 };
}
