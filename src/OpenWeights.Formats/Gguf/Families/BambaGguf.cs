using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Bamba, which llama.cpp runs as Granite 4 without its factors: Mamba 2 in most layers, attention in the others, half of each head rotated.</summary>
internal sealed class BambaGguf : HybridGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Bamba;

    /// <inheritdoc/>
    public override string Architecture => "granitehybrid";

    /// <inheritdoc/>
    public override string FinalNorm => "model.final_layernorm";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules).Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("pre_ff_layernorm", "ffn_norm"),
        ("feed_forward.gate_proj", "ffn_gate"),
        ("feed_forward.up_proj", "ffn_up"),
        ("feed_forward.down_proj", "ffn_down"),
        .. MambaSection.Modules("mamba"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => MambaSection.Tensors("mamba");

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var part = GgufNames.Part(gguf);
        var heads = part.StartsWith("attn_q.", StringComparison.Ordinal) ? config.Int("num_attention_heads") : part.StartsWith("attn_k.", StringComparison.Ordinal) ? KeyValueHeads(config) : 0;
        return heads > 0
            ? new GgufForm { Rows = GgufForm.PairedRows(heads, HeadLength(config), RotatedLength(config)) }
            : MambaSection.FormOf(part, config.Int("mamba_n_groups", 1)) ?? base.FormOf(gguf, config);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        MambaSection.RefuseUnusual(config, "mamba_conv_bias", "mamba_proj_bias");
        MambaSection.RefuseLimits(config);
        var sizes = MambaSection.Sizes(config);
        MambaSection.RequireDouble(config, sizes);
        MambaSection.Write(sizes, metadata, Architecture);
        metadata.Add("granitehybrid.vocab_size", (uint)config.Int("vocab_size"));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        MambaSection.ReadSizes(file, Architecture, config);
        config["attn_layer_indices"] = new JsonArray([.. ReadAttends(file).Select(static (attends, i) => (attends, i)).Where(static l => l.attends).Select(static l => (JsonNode)l.i)]);
        config["mlp_bias"] = file.Contains("blk.0.ffn_up.bias");
        _ = config.Remove("head_dim");
        return config;
    }

    /// <inheritdoc/>
    protected override IReadOnlyList<bool> Attends(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var attention = config.Numbers("attn_layer_indices") ?? [];
        return [.. Enumerable.Range(0, Layers(config)).Select(i => attention.Contains(i))];
    }

    // As in transformers, whatever the config says.
    /// <inheritdoc/>
    protected override int RotatedLength(ConfigJson config) => HeadLength(config) / 2;
}
