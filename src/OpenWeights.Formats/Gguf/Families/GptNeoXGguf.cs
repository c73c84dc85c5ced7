using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// GPT-NeoX and Pythia: layer norms, partial rotary embedding, and the projections of queries, keys and values in one. llama.cpp computes
/// GELU by its approximation with tanh, which differs from the model's by less than a thousandth.
/// </summary>
internal sealed class GptNeoXGguf : GgufFamily
{
    private const string ParallelKey = "gptneox.use_parallel_residual";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.GptNeoX;

    /// <inheritdoc/>
    public override string Architecture => "gptneox";

    /// <inheritdoc/>
    public override bool HasLayerNorms => true;

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override string FinalNorm => "gpt_neox.final_layer_norm";

    /// <inheritdoc/>
    protected override string Embedding => "gpt_neox.embed_in";

    /// <inheritdoc/>
    protected override string Head => "embed_out";

    /// <inheritdoc/>
    protected override string LayerPrefix => "gpt_neox.layers.";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        ("input_layernorm", "attn_norm"),
        ("attention.query_key_value", "attn_qkv"),
        ("attention.dense", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.dense_h_to_4h", "ffn_up"),
        ("mlp.dense_4h_to_h", "ffn_down"),
    ];

    /// <summary>The checkpoint has queries, keys and values head by head, the file all queries first.</summary>
    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        ArgumentNullException.ThrowIfNull(config);
        if (!gguf.Contains(".attn_qkv.", StringComparison.Ordinal))
        {
            return base.FormOf(gguf, config);
        }

        var (heads, length) = (config.Int("num_attention_heads"), HeadLength(config));
        var size = (long)heads * length;
        return new GgufForm { Rows = GgufForm.Order(3 * size, row => (((row % size / length * 3) + (row / size)) * length) + (row % length)) };
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        if (config.Has("attention_bias") && !config.Flag("attention_bias"))
        {
            throw config.Error("attention_bias", "llama.cpp requires biases of attention for this family.");
        }

        metadata.Add(ParallelKey, !config.Has("use_parallel_residual") || config.Flag("use_parallel_residual"));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("head_dim");
        _ = config.Remove("num_key_value_heads");
        config["attention_bias"] = true;
        config["use_parallel_residual"] = file.Metadata.Flag(ParallelKey) ?? true;
        return config;
    }

    /// <inheritdoc/>
    protected override double RopeTheta(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Has("rotary_emb_base") ? config.Number("rotary_emb_base") : base.RopeTheta(config);
    }

    /// <inheritdoc/>
    protected override int RotatedLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Has("rotary_pct") ? (int)(HeadLength(config) * config.Number("rotary_pct")) : base.RotatedLength(config);
    }
}
