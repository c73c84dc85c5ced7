using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Phi-3.5-MoE (Microsoft, 2024): layer norms with biases, and SparseMixer's router, computed as in evaluation in training too.</summary>
internal sealed class PhiMoeFamily : IModelFamily
{
    private const string Short = "short_mscale";
    private const string Long = "long_mscale";

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.PhiMoe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RopeSettings.UnionWith([Short, Long]);
        var decoder = config.Common(Facts);
        _ = config.Has("input_jitter_noise");
        decoder = decoder with { Rope = WithLengthScales(config, decoder.Rope) };
        decoder = decoder with { Norm = new LayerNormSettings(decoder.NormEpsilon), HeadBias = config.Flag("lm_head_bias") };
        var router = new RouterSettings { Name = "router", Scoring = RouterScoring.SparseMixer, TieTolerance = config.Number("router_jitter_noise", 0.01) };
        config.Require("num_experts_per_tok", config.Int("num_experts_per_tok", 2) == 2, "this family's router chooses two experts.");
        return decoder.WithWindows(config.OptionalInt("sliding_window"), LayerTypes.Read(config, decoder.LayerCount, static _ => true))
            .WithUsualMixture(config, Facts.Experts!, "num_local_experts", router);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", true), ("lm_head_bias", !shape.TiedEmbeddings), ("num_experts_per_tok", 2), ("num_local_experts", shape.Experts), ("router_jitter_noise", 0.01), ("sliding_window", null));
    }

    // transformers takes these two instead of a factor computed from the lengths, and has no other scaling for this family.
    private static RopeConfig WithLengthScales(ConfigReader config, RopeConfig rope)
    {
        if (rope.Kind == RopeKind.Default)
        {
            return rope;
        }

        var key = config.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
        config.Require(key, rope.Kind == RopeKind.LongRope, "only longrope is supported for this family.");
        var scaling = config.Object(key)!;
        double Factor(string name) => config.Number(scaling[name], $"{key}: {name}", null);
        return rope with { LengthScales = (Factor(Short), Factor(Long)) };
    }
}
