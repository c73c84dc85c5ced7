using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Granite 3 with experts.</summary>
internal class GraniteMoeGguf : GraniteGguf
{
    /// <summary>The key with the width of the shared expert.</summary>
    protected const string SharedKey = "granitemoe.expert_shared_feed_forward_length";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.GraniteMoe;

    /// <inheritdoc/>
    public override string Architecture => "granitemoe";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("block_sparse_moe.router.layer", "ffn_gate_inp"),
        ("block_sparse_moe.output_linear", "ffn_down_exps"),
        ("shared_mlp.output_linear", "ffn_down_shexp"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<GgufSplit> Splits =>
    [
        new GateUpSplit("block_sparse_moe.input_linear.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight"),
        new GateUpSplit("shared_mlp.input_linear.weight", "ffn_gate_shexp.weight", "ffn_up_shexp.weight", stacked: false),
    ];

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file) => (file?.Metadata.Int(SharedKey) ?? 0) == 0;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), config.Int("intermediate_size"));
        var shared = (int)config.Number("shared_intermediate_size", 0);
        if (shared > 0)
        {
            metadata.Add(SharedKey, (uint)shared);
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("mlp_bias");
        config["num_local_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["num_experts_per_tok"] = MixtureKeys.Int(this, file, "expert_used_count");
        if (file.Metadata.Int(SharedKey) is { } shared and > 0)
        {
            config["shared_intermediate_size"] = shared;
        }

        return config;
    }
}

/// <summary>Granite 3 with experts of which one is shared.</summary>
internal sealed class GraniteMoeSharedGguf : GraniteMoeGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.GraniteMoeShared;

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file) => file?.Metadata.Int(SharedKey) > 0;
}
