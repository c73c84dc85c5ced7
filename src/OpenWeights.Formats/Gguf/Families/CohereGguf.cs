using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Command R: parallel parts, layer norms without bias, and scaled logits.</summary>
internal class CohereGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Cohere;

    /// <inheritdoc/>
    public override string Architecture => "command-r";

    /// <inheritdoc/>
    public override bool HasHead => false;

    /// <inheritdoc/>
    public override bool HasLayerNorms => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace is not ("post_attention_layernorm")),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RequireUsualHeads(config);
        RefuseBiases(config, "attention_bias");
        if (config.Flag("use_qk_norm"))
        {
            throw config.Error("use_qk_norm", "llama.cpp has norms of queries and keys only for the 104B model of this family, whose export is not supported; export a merged folder instead.");
        }

        metadata.Add($"{Architecture}.logit_scale", (float)config.Number("logit_scale", 0.0625));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["logit_scale"] = Round(file.Metadata.Number($"{Architecture}.logit_scale") ?? 0.0625);
        return config;
    }
}
