using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// Phi-3 to Phi-4-mini: fused projections, LongRoPE, partial rotary embedding. llama.cpp ignores the sliding window, so the file's context
/// is limited to the window, within which both are equal.
/// </summary>
internal sealed class Phi3Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Phi3;

    /// <inheritdoc/>
    public override string Architecture => "phi3";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules { get; } =
    [
        ("input_layernorm", "attn_norm"),
        ("self_attn.qkv_proj", "attn_qkv"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        var window = config.Has("sliding_window") ? config.Int("sliding_window") : int.MaxValue;
        WriteCommonSettings(config, metadata, window);
        RequireUsualHeads(config);
        // Zero means no window; without the key llama.cpp would treat the model as the first Phi-3.
        metadata.Add("phi3.attention.sliding_window", window == int.MaxValue ? 0u : (uint)window);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["sliding_window"] = file.Metadata.Int("phi3.attention.sliding_window") is > 0 and var window ? window : null;
        if ((config["rope_scaling"] as JsonObject)?["original_max_position_embeddings"] is { } original)
        {
            // In this family transformers reads it from the top level.
            config["original_max_position_embeddings"] = original.DeepClone();
        }

        _ = config.Remove("head_dim");
        _ = config.Remove("attention_bias");
        return config;
    }
}
