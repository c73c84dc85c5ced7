using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Phi-1, Phi-1.5 and Phi-2: parallel parts, layer norms, partial rotary embedding, and biases.</summary>
internal sealed class PhiGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Phi;

    /// <inheritdoc/>
    public override string Architecture => "phi2";

    /// <inheritdoc/>
    public override string FinalNorm => "model.final_layernorm";

    /// <inheritdoc/>
    public override bool HasLayerNorms => true;

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.dense", "attn_output"),
        ("mlp.fc1", "ffn_up"),
        ("mlp.fc2", "ffn_down"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RequireUsualHeads(config);
        if (config.Flag("qk_layernorm"))
        {
            throw config.Error("qk_layernorm", "llama.cpp has no norms of queries and keys for this family, so the result would differ from the model.");
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        _ = config.Remove("head_dim");
        return config;
    }
}
