using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen3-Next (Qwen Team, 2025): three layers of Gated DeltaNet for each of gated attention, and mixtures of experts.</summary>
internal sealed class Qwen3NextFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Qwen3Next;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).AsQwenHybrid(config, DeltaProjections.ByHead).WithQwenExperts(config, Facts.Experts!);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape,
            [
                .. LinearAttentionReader.NewQwenHybrid(shape), ("decoder_sparse_step", 1), ("moe_intermediate_size", shape.IntermediateSize), ("norm_topk_prob", true),
                ("num_experts", shape.Experts), ("num_experts_per_tok", shape.ExpertsPerToken), ("shared_expert_intermediate_size", shape.IntermediateSize),
            ]);
    }
}
