using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Text models of Llama 4: attention in chunks, every fourth layer without positions, and experts whose input the router scales.</summary>
internal sealed class Llama4Gguf : GgufFamily
{
    // llama.cpp has these in its code, and not in the file.
    private const int Chunk = 8192;
    private const int Floor = 8192;
    private const double Scale = 0.1;
    private const int ExpertsWithoutNorm = 128;

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Llama4Text;

    /// <inheritdoc/>
    public override string Architecture => "llama4";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("feed_forward.gate_proj", "ffn_gate"),
        ("feed_forward.up_proj", "ffn_up"),
        ("feed_forward.down_proj", "ffn_down"),
        ("feed_forward.router", "ffn_gate_inp"),
        .. MixtureKeys.Shared("feed_forward.shared_expert"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<GgufSplit> Splits =>
    [
        new GateUpSplit("feed_forward.experts.gate_up_proj", "ffn_gate_exps.weight", "ffn_up_exps.weight", GateUpOrder.Transposed),
        new TransposedSplit("feed_forward.experts.down_proj", "ffn_down_exps.weight"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        LlamaGguf.WriteLlamaSettings(config, metadata, this);
        RefuseBiases(config, "attention_bias");
        RequireUsualAttention(config);
        var (layers, step) = (config.Int("num_hidden_layers"), config.Int("interleave_moe_layer_step", 1));
        if (config.Numbers("moe_layers") is { } sparse)
        {
            step = sparse.Count > 0 ? (int)sparse[0] + 1 : layers + 1;
            MixtureKeys.Require(config, "moe_layers", sparse.SequenceEqual(Enumerable.Range(0, layers).Where(i => (i + 1) % step == 0).Select(static i => (double)i)), "mixtures at equal distances");
        }

        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), config.Int("intermediate_size"));
        metadata.Add("llama4.interleave_moe_layer_step", (uint)step);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        if (file.Metadata.Int("llama4.attention.sliding_window") == 0)
        {
            throw file.Metadata.Error("llama4.attention.sliding_window", "models of this architecture without chunks cannot be read.");
        }

        var experts = MixtureKeys.Int(this, file, "expert_count");
        config["intermediate_size"] = MixtureKeys.Inner(this, file);
        config["intermediate_size_mlp"] = MixtureKeys.Int(this, file, "feed_forward_length");
        config["interleave_moe_layer_step"] = MixtureKeys.Int(this, file, "interleave_moe_layer_step");
        config["num_experts_per_tok"] = MixtureKeys.Int(this, file, "expert_used_count");
        config["num_local_experts"] = experts;
        config["attention_chunk_size"] = Chunk;
        config["attn_scale"] = Scale;
        config["attn_temperature_tuning"] = true;
        config["floor_scale"] = Floor;
        config["no_rope_layer_interval"] = 4;
        config["use_qk_norm"] = experts != ExpertsWithoutNorm;
        return config;
    }

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (uint)config.Int("intermediate_size_mlp", 16384);
    }

    private void RequireUsualAttention(ConfigJson config)
    {
        var positions = config.Int("max_position_embeddings", Facts.MaxPositions);

        // What begins behind the last position makes no difference.
        bool IsLike(int own, int theirs) => own == theirs || (positions <= own && positions <= theirs);
        MixtureKeys.Require(config, "attention_chunk_size", IsLike(config.IsNull("attention_chunk_size") ? int.MaxValue : config.Int("attention_chunk_size", 8192), Chunk), "chunks of 8192 tokens");
        var tunes = MixtureKeys.Flag(config, "attn_temperature_tuning", true) && config.Number("attn_scale", Scale) != 0;
        var floor = (int)config.Number("floor_scale", 8192);
        MixtureKeys.Require(config, "attn_temperature_tuning", tunes ? IsLike(floor, Floor) && (config.Number("attn_scale", Scale) == Scale || positions < Floor) : positions < Floor, "queries scaled with the position, by 0.1 every 8192 tokens");
        MixtureKeys.Require(config, "no_rope_layers", Rotates(config).Index().All(static l => l.Item == ((l.Index + 1) % 4 != 0)), "every fourth layer without positions");
        MixtureKeys.Require(config, "layer_types", config.Texts("layer_types")?.Index().All(static l => (l.Item == "chunked_attention") == ((l.Index + 1) % 4 != 0)) != false, "chunks in three of four layers");
        MixtureKeys.Require(config, "use_qk_norm", MixtureKeys.Flag(config, "use_qk_norm", true) == (Experts(config) != ExpertsWithoutNorm), "norms of queries and keys, except with 128 experts, where there are none");
    }

    private static IEnumerable<bool> Rotates(ConfigJson config)
    {
        var layers = config.Int("num_hidden_layers");
        var interval = config.Int("no_rope_layer_interval", 4);
        return config.Numbers("no_rope_layers") is { Count: > 0 } given ? given.Take(layers).Select(static n => n != 0) : Enumerable.Range(0, layers).Select(i => (i + 1) % interval != 0);
    }
}
