using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>InternLM 3, which llama.cpp runs as llama.</summary>
internal sealed class InternLm3Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.InternLm3;

    /// <inheritdoc/>
    public override string Architecture => "llama";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <summary>Llama has a bias of the output projection where it has those of queries, keys and values.</summary>
    /// <inheritdoc/>
    public override bool IsOf(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return file.Contains("blk.0.attn_q.bias") && !file.Contains("blk.0.attn_output.bias") && file.Metadata.Int("llama.expert_count") is null or 0;
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        LlamaGguf.WriteLlamaSettings(config, metadata, this);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        config["qkv_bias"] = true;
        config["bias"] = false;
        config["mlp_bias"] = file.Contains("blk.0.ffn_up.bias");
        return config;
    }
}
