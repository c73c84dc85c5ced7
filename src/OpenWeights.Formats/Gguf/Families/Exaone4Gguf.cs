using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>EXAONE 4: norms of outputs, and of queries and keys. llama.cpp knows the sliding windows of the 32B model alone.</summary>
internal sealed class Exaone4Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Exaone4;

    /// <inheritdoc/>
    public override string Architecture => "exaone4";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace is not ("input_layernorm" or "post_attention_layernorm")),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        if (config.IsNull("sliding_window"))
        {
            return;
        }

        if (config.Int("num_hidden_layers") != LayersOf32Billion)
        {
            throw config.Error("sliding_window", $"llama.cpp has sliding windows for this family only in a model of {LayersOf32Billion} layers, so the result would differ from the model; set it to null if you mean full attention.");
        }

        RequireLayerTypes(config, static layer => (layer + 1) % 4 != 0);
        metadata.Add("exaone4.attention.sliding_window", (uint)config.Int("sliding_window", Facts.SlidingWindow));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        config["sliding_window"] = file.Metadata.Int("exaone4.attention.sliding_window");
        config["sliding_window_pattern"] = 4;
        return config;
    }

    private const int LayersOf32Billion = 64;
}
