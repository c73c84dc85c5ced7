using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>StableLM 3B and StableLM 2: layer norms, and partial rotary embedding.</summary>
internal sealed class StableLmGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.StableLm;

    /// <inheritdoc/>
    public override string Architecture => "stablelm";

    /// <inheritdoc/>
    public override bool HasLayerNorms => true;

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RequireUsualHeads(config);
        if (config.Flag("qk_layernorm"))
        {
            throw config.Error("qk_layernorm", "the norms of each head cannot be written as GGUF; export a merged folder instead.");
        }

        metadata.Add("stablelm.use_parallel_residual", config.Flag("use_parallel_residual"));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        _ = config.Remove("head_dim");
        config["use_qkv_bias"] = file.Contains("blk.0.attn_q.bias");
        config["use_parallel_residual"] = !file.Contains("blk.0.ffn_norm.weight");
        return config;
    }
}
