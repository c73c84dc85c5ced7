using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>StarCoder 2: layer norms, biases, and a feed-forward without a gate. llama.cpp ignores the sliding window, so the file's context is limited to the window.</summary>
internal sealed class StarCoder2Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.StarCoder2;

    /// <inheritdoc/>
    public override string Architecture => "starcoder2";

    /// <inheritdoc/>
    public override bool HasLayerNorms => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace is not ("mlp.gate_proj" or "mlp.up_proj" or "mlp.down_proj")),
        ("mlp.c_fc", "ffn_up"),
        ("mlp.c_proj", "ffn_down"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        WriteCommonSettings(config, metadata, config.Has("sliding_window") ? config.Int("sliding_window") : int.MaxValue);
        RequireUsualHeads(config);
        if (config.Has("use_bias") && !config.Flag("use_bias"))
        {
            throw config.Error("use_bias", "llama.cpp requires biases for this family.");
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        config["use_bias"] = true;
        return config;
    }
}
