using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Granite 4 (IBM, 2025): Granite with layers of Mamba-2 and some of attention, each with a shared feed-forward, and a mixture of experts beside it.</summary>
internal sealed class GraniteMoeHybridFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.GraniteMoeHybrid;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts).WithGraniteFactors(config);
        var rope = config.Text("position_embedding_type") is { } positions
            ? positions switch
            {
                "rope" => decoder.Rope,
                "nope" => null,
                _ => throw config.Error("position_embedding_type", $"'{positions}' is not supported; supported are rope and nope."),
            }
            : null;
        var mixer = config.Mamba2(decoder);
        var attends = config.AttentionLayers(config.Has("layer_types") ? "layer_types" : "layers_block_type", decoder.LayerCount) ?? new bool[decoder.LayerCount];
        var layers = attends.Select(attends => attends ? new LayerConfig { Rope = rope } : new LayerConfig { Rope = null, Mixer = mixer }).ToList();
        config.Ignore("init_method");
        config.RequireText("normalization_function", "rmsnorm");
        if (config.Number("num_local_experts", Facts.Experts!.Count) > 0)
        {
            return (decoder with { Layers = layers }).WithGraniteMixture(config, Facts.Experts, sharedWidth: 1024);
        }

        // Without experts, whose shared block is all there is.
        config.Ignore("num_experts_per_tok");
        var shared = config.GraniteShared(decoder, width: 1024);
        config.Require("shared_intermediate_size", shared is not null, "without experts, a number above zero is expected.");
        return decoder with { Layers = layers.ConvertAll(l => l with { FeedForward = shared }) };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape,
            [
                ("attention_bias", false), ("attention_multiplier", 1.0 / (shape.HiddenSize / shape.Heads)), ("embedding_multiplier", 12.0), ("head_dim", null),
                ("layer_types", new JsonArray([.. Enumerable.Range(0, shape.Layers).Select(static i => (JsonNode)(i % 4 == 1 ? "attention" : "mamba"))])),
                ("logits_scaling", 8.0), ("num_experts_per_tok", 0), ("num_local_experts", 0), ("position_embedding_type", "nope"), ("residual_multiplier", 0.22),
                ("shared_intermediate_size", shape.IntermediateSize), .. MambaReader.New(shape),
            ]);
    }
}
