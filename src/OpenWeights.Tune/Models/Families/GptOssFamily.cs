using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>GPT-OSS (OpenAI, 2025): attention sinks, windows in every other layer, and experts with biases and a clamped activation.</summary>
internal sealed class GptOssFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.GptOss;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        _ = config.Has("experts_per_token");
        _ = config.Has("initial_context_length");
        config.Require("rope_scaling", config.Has("rope_parameters") || config.Has("rope_scaling"), "it is missing; transformers would take YaRN with a factor of 32, so copy it from the model's own config.json.");
        var decoder = config.Common(Facts);
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int("num_experts_per_tok", Facts.Experts!.PerToken),
            Router = new RouterSettings { Name = "router", HasBias = true, Scoring = RouterScoring.SoftmaxOfChosen },
            Experts = config.Experts(decoder, Facts.Experts, "num_local_experts", decoder.FeedForward.Inner) with
            {
                HasBias = true,
                IsTransposed = true,
                IsInterleaved = true,
                Clamp = new ClampedGate(config.Number("swiglu_alpha", 1.702), config.Number("swiglu_limit", 7)),
            },
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        var slides = LayerTypes.Read(config, decoder.LayerCount, static i => (i + 1) % 2 != 0);
        decoder = decoder with { RouterLossWeight = config.RouterLossWeight() };
        return decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), slides)
            .WithAttention(static attention => attention with { HasSinks = true })
            .WithMixture(mixture, static _ => true);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", true), ("num_experts_per_tok", shape.ExpertsPerToken), ("num_local_experts", shape.Experts), ("rope_scaling", new JsonObject { ["rope_type"] = "default" }),
            ("sliding_window", 128), ("swiglu_alpha", 1.702), ("swiglu_limit", 7.0));
    }
}
