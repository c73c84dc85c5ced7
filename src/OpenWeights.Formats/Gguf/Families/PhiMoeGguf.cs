using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Phi-3.5-MoE. Files of it can be read and not written: llama.cpp weighs the two experts otherwise than the model.</summary>
internal sealed class PhiMoeGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.PhiMoe;

    /// <inheritdoc/>
    public override string Architecture => "phimoe";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("block_sparse_moe.gate", "ffn_gate_inp"),
        .. MixtureKeys.MixtralExperts,
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        throw config.Error("model_type", "llama.cpp divides the weights of phimoe's two experts by their sum, while the model takes each from scores of its own (SparseMixer), so the result would differ from the model.");
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["lm_head_bias"] = file.Contains("output.bias");
        config["num_experts_per_tok"] = 2;
        config["num_local_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["sliding_window"] = null;
        if (config["rope_scaling"] is JsonObject { } rule && rule["attention_factor"] is { } factor)
        {
            (rule["short_mscale"], rule["long_mscale"]) = (factor.DeepClone(), factor.DeepClone());
            _ = rule.Remove("attention_factor");
        }

        return config;
    }
}
