using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>DeepSeek-V2 (DeepSeek-AI, 2024): latent attention, and mixtures of many small experts with shared ones.</summary>
internal sealed class DeepSeekV2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.DeepSeekV2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.CommonWithLatentAttention(Facts, interleaved: true).WithYarnScores(config) with { FeedForwardBias = config.Flag("mlp_bias") };
        config.ReadDeepSeekTraining();
        var dense = (int)config.Number("first_k_dense_replace", 0);
        return decoder.WithMixture(Mixture(config, decoder, Facts.Experts!), i => i >= dense);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape,
            [
                .. LatentSettings.NewLatentConfig(shape), ("first_k_dense_replace", 1), ("moe_intermediate_size", shape.IntermediateSize), ("n_routed_experts", shape.Experts), ("n_shared_experts", 1),
                ("num_experts_per_tok", shape.ExpertsPerToken), ("topk_method", "greedy"),
            ]);
    }

    private static MixtureSettings Mixture(ConfigReader config, DecoderConfig decoder, ExpertFacts facts)
    {
        config.RequireText("scoring_func", "softmax");
        config.Require("norm_topk_prob", !config.Flag("norm_topk_prob"), "DeepSeek's code divides the weights of the chosen experts by their sum, but transformers does not; it must be false.");
        var method = config.Text("topk_method") ?? "greedy";
        config.Require("topk_method", method is "greedy" or "group_limited_greedy", $"'{method}' is not supported for this family; supported are greedy and group_limited_greedy.");
        var inner = config.Int("moe_intermediate_size", facts.Inner);
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.OptionalInt("num_experts_per_tok", facts.PerToken) ?? throw config.Error("num_experts_per_tok", "a number is expected, not null."),
            Router = new RouterSettings { InFloat32 = true, Scale = config.OptionalNumber("routed_scaling_factor", facts.Scale) ?? 1 },
            Experts = config.Experts(decoder, facts, "n_routed_experts", new Dimension("moe_intermediate_size", inner)),
            Shared = config.SharedExperts(decoder, "n_shared_experts", facts.SharedCount, "moe_intermediate_size", inner),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        var groups = config.Groups(mixture, facts, scored: 1);
        return mixture with { Router = mixture.Router with { Groups = method == "greedy" ? null : groups } };
    }
}
