using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Text models of Qwen 3.5 with experts (Qwen Team, 2026): a mixture in every layer, whose weights are always divided by their sum.</summary>
internal sealed class Qwen35MoeTextFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Qwen35MoeText;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);

        // No layer is dense.
        _ = config.Has("intermediate_size");
        return config.Common(Facts, innerWidth: config.Int("moe_intermediate_size", Facts.Experts!.Inner)).AsQwenHybrid(config, DeltaProjections.ByUse).WithQwenExperts(config, Facts.Experts!, normalizes: true);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var json = CommonSettings.NewConfig(
            this, shape,
            [
                .. LinearAttentionReader.NewQwenHybrid(shape), ("moe_intermediate_size", shape.IntermediateSize), ("num_experts", shape.Experts), ("num_experts_per_tok", shape.ExpertsPerToken),
                ("shared_expert_intermediate_size", shape.IntermediateSize),
            ]);
        _ = json.Remove("intermediate_size");
        return json;
    }
}
