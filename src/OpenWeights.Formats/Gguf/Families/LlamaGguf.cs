using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Llama 1 to 3.3.</summary>
public sealed class LlamaGguf : GgufFamily
{
    /// <inheritdoc/>
    public override string ModelType => "llama";

    /// <inheritdoc/>
    public override string ClassName => "LlamaForCausalLM";

    /// <inheritdoc/>
    public override string Architecture => "llama";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        WriteLlamaSettings(config, metadata);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (file.Metadata.Int("llama.expert_count") > 0)
        {
            throw file.Metadata.Error("llama.expert_count", "models of experts cannot be read from GGUF.");
        }

        var config = base.ReadSettings(file);
        config["mlp_bias"] = file.Contains("blk.0.ffn_up.bias");
        return config;
    }

    /// <summary>The keys that llama.cpp's architecture llama has beyond the common ones.</summary>
    internal static void WriteLlamaSettings(ConfigJson config, GgufMetadata metadata)
    {
        metadata.Add("llama.vocab_size", (uint)config.Int("vocab_size"));
        metadata.Add("llama.rope.dimension_count", (uint)HeadLength(config));
    }
}
