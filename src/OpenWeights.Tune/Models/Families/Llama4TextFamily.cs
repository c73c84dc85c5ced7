using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Text models of Llama 4 (Meta, 2025): attention in chunks, every fourth layer without positions, and experts whose input the router scales.</summary>
internal sealed class Llama4TextFamily : IModelFamily
{
    private const string ChunkedAttention = "chunked_attention";

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Llama4Text;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.Require("router_jitter_noise", config.Number("router_jitter_noise", 0) == 0, "router jitter noise is not supported; set it to 0.0.");
        _ = config.Has("for_llm_compressor");
        var decoder = config.Common(Facts);
        decoder = decoder with { Rope = decoder.Rope with { Interleaved = true } };
        var rotates = Rotates(config, decoder.LayerCount);
        var chunked = Chunked(config, decoder.LayerCount, rotates);
        var chunk = config.OptionalInt("attention_chunk_size", 8192);
        var (scale, floor) = (config.Number("attn_scale", 0.1), config.Number("floor_scale", 8192));
        var scaling = config.Flag("attn_temperature_tuning", true) ? new QueryScaling(scale, floor, 1) : null;
        var norm = config.Flag("use_qk_norm", true) ? QueryKeyNorm.PerHead : QueryKeyNorm.None;
        var step = config.Int("interleave_moe_layer_step", 1);
        var sparse = config.Ints("moe_layers") ?? [.. Enumerable.Range(0, decoder.LayerCount).Where(i => (i + 1) % step == 0)];
        var inner = decoder.FeedForward.Inner;
        var feedForward = decoder.FeedForward with { ModuleName = "feed_forward" };
        var dense = feedForward with { Inner = config.Dimension("intermediate_size_mlp", 16384) };
        var mixture = new MixtureSettings
        {
            ModuleName = "feed_forward",
            ExpertsPerToken = config.Int("num_experts_per_tok", Facts.Experts!.PerToken),
            Router = new RouterSettings { Name = "router", Scoring = RouterScoring.Sigmoid },
            Experts = config.Experts(decoder, Facts.Experts, "num_local_experts", inner) with { IsTransposed = true, UpdatesAsStored = true },
            ScalesInput = true,
            Shared = decoder.FeedForward with { ModuleName = "shared_expert" },
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        var plain = decoder.Attention;
        var rotated = plain with { Rope = decoder.Rope, QueryKeyNorm = norm, NormalizesRotated = true, Norm = new RmsNormSettings(decoder.NormEpsilon, HasWeight: false) };
        decoder = decoder with { RouterLossWeight = config.RouterLossWeight() };
        return decoder.WithLayers((layer, i) => layer with
        {
            Rope = rotates[i] ? decoder.Rope : null,
            Mixer = (rotates[i] ? rotated : plain with { QueryScaling = scaling }) with { ChunkSize = chunked[i] ? chunk : null },
            FeedForward = sparse.Contains(i) ? mixture : dense,
        });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_chunk_size", 8192), ("interleave_moe_layer_step", 1), ("intermediate_size_mlp", shape.IntermediateSize), ("num_experts_per_tok", shape.ExpertsPerToken),
            ("num_local_experts", shape.Experts));
    }

    // no_rope_layers has 1 for a layer with rotary embedding.
    private static bool[] Rotates(ConfigReader config, int layers)
    {
        var interval = config.Int("no_rope_layer_interval", 4);
        var given = config.Ints("no_rope_layers") ?? [];
        config.Require("no_rope_layers", given.Count == 0 || given.Count >= layers, $"it lists {given.Count} layers; num_hidden_layers is {layers}.");
        return [.. Enumerable.Range(0, layers).Select(i => given.Count == 0 ? (i + 1) % interval != 0 : given[i] != 0)];
    }

    private static bool[] Chunked(ConfigReader config, int layers, bool[] rotates)
    {
        if (config.Texts("layer_types") is not { } types)
        {
            return rotates;
        }

        config.Require("layer_types", types.Count == layers, $"it lists {types.Count} layers; num_hidden_layers is {layers}.");
        var unknown = types.FirstOrDefault(static t => t is not (ChunkedAttention or LayerTypes.Full));
        config.Require("layer_types", unknown is null, $"'{unknown}' is not supported; supported are {ChunkedAttention} and {LayerTypes.Full}.");
        return [.. types.Select(static t => t == ChunkedAttention)];
    }
}
