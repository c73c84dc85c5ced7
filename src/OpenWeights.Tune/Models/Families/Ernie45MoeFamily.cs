using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>ERNIE 4.5 (Baidu, 2025) with experts: a softmax router whose choice is corrected, and shared experts.</summary>
internal sealed class Ernie45MoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Ernie45Moe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.Require("use_bias", !config.Flag("use_bias"), "biases are not supported for this family.");
        var decoder = config.Common(Facts);
        decoder = decoder with { Rope = decoder.Rope with { Interleaved = true } };
        var inner = config.Int("moe_intermediate_size", Facts.Experts!.Inner);
        var (first, last, step) = ((int)config.Number("moe_layer_start_index", 1), (int)config.Number("moe_layer_end_index", -1), config.Int("moe_layer_interval", 1));
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int("moe_k", Facts.Experts.PerToken),
            Router = new RouterSettings
            {
                InFloat32 = true,
                Correction = "moe_statics.e_score_correction_bias",
                HasCorrectionRow = true,
                Normalizes = true,
                LeastSum = config.Number("moe_norm_min", 1e-12),
            },
            Experts = config.Experts(decoder, Facts.Experts, "moe_num_experts", new Dimension("moe_intermediate_size", inner)),
            Shared = config.SharedExperts(decoder, "moe_num_shared_experts", Facts.Experts.SharedCount, "moe_intermediate_size", inner),
        };
        config.RequireExperts(mixture, "moe_k");
        return decoder.WithMixture(mixture, i => (i + 1) % step == 0 && i >= first && (last == -1 || i <= last)) with { RouterLossWeight = config.RouterLossWeight() };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("moe_intermediate_size", shape.IntermediateSize), ("moe_k", shape.ExpertsPerToken), ("moe_num_experts", shape.Experts), ("moe_num_shared_experts", 1), ("use_bias", false));
    }
}
