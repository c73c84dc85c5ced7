using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Granite 3: Llama with multipliers on embeddings, scores, residuals and logits.</summary>
internal class GraniteGguf : GgufFamily
{
    private static readonly (string HuggingFace, string Gguf)[] Multipliers =
    [
        ("attention_multiplier", "attention.scale"), ("embedding_multiplier", "embedding_scale"), ("residual_multiplier", "residual_scale"), ("logits_scaling", "logit_scale"),
    ];

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Granite;

    /// <inheritdoc/>
    public override string Architecture => "granite";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        LlamaGguf.WriteLlamaSettings(config, metadata, this);
        WriteMultipliers(config, metadata, Architecture);
    }

    /// <summary>Writes the keys of the multipliers.</summary>
    internal static void WriteMultipliers(ConfigJson config, GgufMetadata metadata, string architecture)
    {
        foreach (var (key, name) in Multipliers)
        {
            metadata.Add($"{architecture}.{name}", (float)config.Number(key, 1));
        }
    }

    /// <summary>Adds the multipliers in a file to a config.json.</summary>
    internal static void ReadMultipliers(GgufFile file, JsonObject config, string architecture)
    {
        foreach (var (key, name) in Multipliers)
        {
            config[key] = Round(file.Metadata.Number($"{architecture}.{name}") ?? 1);
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        ReadMultipliers(file, config, Architecture);
        config["mlp_bias"] = file.Contains("blk.0.ffn_up.bias");
        return config;
    }
}
