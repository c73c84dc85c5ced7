using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Mistral 4 (Mistral AI, 2026): latent attention with queries whose factor grows with their position, and mixtures with shared experts.</summary>
internal sealed class Mistral4Family : IModelFamily
{
    private const string Beta = "llama_4_scaling_beta";
    private const double UsualBeta = 0.1;

    // transformers' default if the config has no rotary settings.
    private static readonly RopeConfig s_rope = new() { Kind = RopeKind.Yarn, Factor = 128, OriginalMaxPositions = 8192, AttentionFactor = 1 };

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Mistral4;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RopeSettings.UnionWith([Beta, "max_position_embeddings"]);
        var given = config.Object("rope_parameters") ?? config.Object("rope_scaling");
        var decoder = config.CommonWithLatentAttention(Facts, config.Flag("rope_interleave", true));
        var rope = given is null && !config.Mentions("rope_scaling") ? s_rope with { Theta = decoder.Rope.Theta, Interleaved = decoder.Rope.Interleaved } : decoder.Rope;
        var beta = ReferenceEquals(rope, decoder.Rope) ? config.Number(given?[Beta], Beta, 0) : UsualBeta;
        decoder = (decoder with { Rope = rope }).WithYarnScores(config, ReferenceEquals(rope, decoder.Rope) ? 0 : 1).WithLatentAttention(
            attention => attention with { Rope = rope, QueryScaling = beta == 0 ? null : new QueryScaling(beta, rope.OriginalMaxPositions, 0) });
        var dense = (int)config.Number("first_k_dense_replace", 0);
        return decoder.WithMixture(Mixture(config, decoder, Facts.Experts!), i => i >= dense);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var width = shape.HiddenSize / shape.Heads;
        var rope = new JsonObject
        {
            ["beta_fast"] = 32.0,
            ["beta_slow"] = 1.0,
            ["factor"] = 1.0,
            [Beta] = UsualBeta,
            ["mscale"] = 1.0,
            ["mscale_all_dim"] = 1.0,
            ["original_max_position_embeddings"] = shape.MaxPositions,
            ["rope_theta"] = shape.RopeTheta,
            ["rope_type"] = "yarn",
        };
        var json = CommonSettings.NewConfig(
            this, shape,
            [
                .. LatentSettings.NewLatentConfig(shape), ("first_k_dense_replace", 0), ("head_dim", width + LatentSettings.RotatedWidth(shape)), ("moe_intermediate_size", shape.IntermediateSize),
                ("n_routed_experts", shape.Experts), ("n_shared_experts", 1), ("num_experts_per_tok", shape.ExpertsPerToken), ("rope_parameters", rope),
            ]);
        _ = json.Remove("rope_theta");
        _ = json.Remove("rope_scaling");
        return json;
    }

    private static MixtureSettings Mixture(ConfigReader config, DecoderConfig decoder, ExpertFacts facts)
    {
        var inner = config.Int("moe_intermediate_size", facts.Inner);
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int("num_experts_per_tok", facts.PerToken),
            Router = new RouterSettings { Normalizes = config.Flag("norm_topk_prob", facts.Normalizes), SumEpsilon = 1e-20, Scale = config.OptionalNumber("routed_scaling_factor", facts.Scale) ?? 1 },
            Experts = config.Experts(decoder, facts, "n_routed_experts", new Dimension("moe_intermediate_size", inner)),
            Shared = config.SharedExperts(decoder, "n_shared_experts", facts.SharedCount, "moe_intermediate_size", inner),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        return mixture with { Router = mixture.Router with { Groups = config.Groups(mixture, facts) } };
    }
}
