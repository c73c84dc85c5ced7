using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>LFM 2: short convolutions in most layers, attention in the others.</summary>
internal class Lfm2Gguf : HybridGguf
{
    private const string Convolution = "conv";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Lfm2;

    /// <inheritdoc/>
    public override string Architecture => "lfm2";

    /// <inheritdoc/>
    public override string FinalNorm => "model.embedding_norm";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> OuterModules => [(Embedding, "token_embd"), (FinalNorm, "token_embd_norm"), (Head, "output")];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        ("operator_norm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.out_proj", "attn_output"),
        ("self_attn.q_layernorm", "attn_q_norm"),
        ("self_attn.k_layernorm", "attn_k_norm"),
        ("conv.conv", "shortconv.conv"),
        ("conv.in_proj", "shortconv.in_proj"),
        ("conv.out_proj", "shortconv.out_proj"),
        ("ffn_norm", "ffn_norm"),
        ("feed_forward.w1", "ffn_gate"),
        ("feed_forward.w2", "ffn_down"),
        ("feed_forward.w3", "ffn_up"),
    ];

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config) =>
        GgufNames.Part(gguf) == "shortconv.conv.weight" ? new GgufForm { Shape = GgufShape.Convolution } : base.FormOf(gguf, config);

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RequireUsualHeads(config);
        RefuseBiases(config, "conv_bias");
        metadata.Add($"{Architecture}.shortconv.l_cache", (uint)config.Int("conv_L_cache", 3));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        foreach (var other in new[] { "attention_bias", "hidden_act", "head_dim", "rms_norm_eps" })
        {
            _ = config.Remove(other);
        }

        config["norm_eps"] = Round(file.Metadata.Number($"{Architecture}.attention.layer_norm_rms_epsilon") ?? Facts.NormEpsilon);
        config["conv_L_cache"] = file.Metadata.Int($"{Architecture}.shortconv.l_cache") ?? 3;
        config["layer_types"] = ReadLayerTypes(file, Convolution);
        config["block_auto_adjust_ff_dim"] = false;
        return config;
    }

    /// <inheritdoc/>
    protected override double NormEpsilon(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Number("norm_eps", Facts.NormEpsilon);
    }

    /// <inheritdoc/>
    protected override IReadOnlyList<bool> Attends(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var full = config.Numbers("full_attn_idxs");
        return Attends(config, "layer_types", layer => full?.Contains(layer) != false);
    }

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var width = config.Has("block_ff_dim") ? config.Int("block_ff_dim") : config.Int("intermediate_size", 12288);
        if (config.Has("block_auto_adjust_ff_dim") && !config.Flag("block_auto_adjust_ff_dim"))
        {
            return (uint)width;
        }

        // Two thirds, rounded up to a multiple.
        var (adjusted, multiple) = ((int)(2.0 * width / 3), config.Int("block_multiple_of", 256));
        return config.IsNull("block_ffn_dim_multiplier") ? (uint)adjusted : (uint)(((int)(config.Number("block_ffn_dim_multiplier", 1) * adjusted) + multiple - 1) / multiple * multiple);
    }
}
