using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Ministral 3 (Mistral AI, 2025): Mistral with queries whose factor grows with their position.</summary>
internal sealed class Ministral3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Ministral3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RopeSettings.UnionWith([Beta, "max_position_embeddings"]);
        var rope = config.Object("rope_parameters") ?? config.Object("rope_scaling");

        // transformers' default if the config has no rotary settings.
        var usual = rope is null && !config.Mentions("rope_scaling") ? s_rope with { Theta = config.Number("rope_theta", Facts.RopeTheta) } : null;
        var decoder = config.Common(Facts);
        decoder = decoder with { Rope = usual ?? decoder.Rope };
        var beta = usual is null ? config.Number(rope?[Beta], Beta, 0) : UsualBeta;
        return decoder
            .WithWindows(config.OptionalInt("sliding_window"), LayerTypes.Read(config, decoder.LayerCount, static _ => true))
            .WithAttention(attention => beta == 0 ? attention : attention with { QueryScaling = new QueryScaling(beta, decoder.Rope.OriginalMaxPositions, 0) });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var rope = new JsonObject
        {
            ["beta_fast"] = 32.0,
            ["beta_slow"] = 1.0,
            ["factor"] = 1.0,
            [Beta] = UsualBeta,
            ["original_max_position_embeddings"] = shape.MaxPositions,
            ["rope_theta"] = shape.RopeTheta,
            ["rope_type"] = "yarn",
        };
        var json = CommonSettings.NewConfig(this, shape, ("rope_parameters", rope), ("sliding_window", null));
        _ = json.Remove("rope_theta");
        _ = json.Remove("rope_scaling");
        return json;
    }

    private const string Beta = "llama_4_scaling_beta";
    private const double UsualBeta = 0.1;

    private static readonly RopeConfig s_rope = new() { Kind = RopeKind.Yarn, Factor = 16, OriginalMaxPositions = 16384, AttentionFactor = 1 };
}
