using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (Abdin et al., 2024): fused projections, LongRoPE, and in Phi-4-mini partial rotary embedding.
/// </summary>
internal sealed class Phi3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Phi3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RequireNoDropout(Facts, "resid_pdrop", "embd_pdrop");
        var decoder = config.Common(Facts) with { FusedProjections = true };
        config.Require("rope_scaling", decoder.Rope.Kind is RopeKind.Default or RopeKind.LongRope, "this family supports the rope types default and longrope.");
        return decoder.WithWindows(config.OptionalInt("sliding_window"), LayerTypes.Read(config, decoder.LayerCount, static _ => true));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var json = CommonSettings.NewConfig(this, shape, ("original_max_position_embeddings", shape.MaxPositions), ("partial_rotary_factor", 1.0), ("sliding_window", null));
        _ = json.Remove("head_dim");
        return json;
    }
}
