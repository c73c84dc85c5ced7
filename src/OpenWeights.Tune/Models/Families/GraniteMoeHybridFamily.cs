using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Granite 4 (IBM, 2025): Granite with layers of Mamba-2 and some of attention, each with a shared feed-forward, and a mixture of experts beside it.</summary>
public sealed class GraniteMoeHybridFamily : IModelFamily
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
        var feedForward = FeedForward(config, decoder);
        return decoder with
        {
            RouterLossWeight = config.RouterLossWeight(),
            Layers = [.. attends.Select(attends => attends ? new LayerConfig { Rope = rope, FeedForward = feedForward } : new LayerConfig { Rope = null, Mixer = mixer, FeedForward = feedForward })],
        };
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

    private FeedForwardSettings FeedForward(ConfigReader config, DecoderConfig decoder)
    {
        config.Ignore("init_method");
        config.RequireText("normalization_function", "rmsnorm");
        var shared = new GatedFeedForwardSettings
        {
            ModuleName = "shared_mlp",
            HiddenSize = decoder.HiddenSize,
            Inner = config.Dimension("shared_intermediate_size", 1024),
            Activation = decoder.Activation,
            FusedProjections = true,
            Names = new FeedForwardNames("", "", "output_linear", "input_linear"),
        };
        if (config.Number("num_local_experts", Facts.Experts!.Count) == 0)
        {
            config.Ignore("num_experts_per_tok");
            return shared;
        }

        var mixture = new MixtureSettings
        {
            ModuleName = "block_sparse_moe",
            ExpertsPerToken = config.Int("num_experts_per_tok", Facts.Experts.PerToken),
            Router = new RouterSettings { Name = "router", Scoring = RouterScoring.SoftmaxOfChosen },
            Experts = config.Experts(decoder, Facts.Experts, "num_local_experts", decoder.FeedForward.Inner),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        return new ParallelFeedForwardSettings { HiddenSize = decoder.HiddenSize, Blocks = [mixture, shared] };
    }
}
