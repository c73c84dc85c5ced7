using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Llama 1 to 3.3.</summary>
internal sealed class LlamaGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Llama;

    /// <inheritdoc/>
    public override string Architecture => "llama";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        WriteLlamaSettings(config, metadata, this);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["mlp_bias"] = file.Contains("blk.0.ffn_up.bias");
        return config;
    }

    /// <inheritdoc/>
    public override bool IsOf70Billion(ConfigJson config) => HasEightyGroupedLayers(config, this);

    /// <summary>llama.cpp's sign of Llama 2 and 3 of 70 billion parameters.</summary>
    internal static bool HasEightyGroupedLayers(ConfigJson config, GgufFamily family) =>
        config.Int("num_hidden_layers") == 80 && family.KeyValueHeads(config) != config.Int("num_attention_heads");

    /// <summary>The keys that llama.cpp's architecture llama, and those that were made after it, have beyond the common ones.</summary>
    internal static void WriteLlamaSettings(ConfigJson config, GgufMetadata metadata, GgufFamily family)
    {
        metadata.Add($"{family.Architecture}.vocab_size", (uint)config.Int("vocab_size"));
        metadata.Add($"{family.Architecture}.rope.dimension_count", (uint)family.HeadLength(config));
    }
}
