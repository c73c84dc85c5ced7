using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Qwen3-Next.</summary>
internal sealed class Qwen3NextGguf : QwenHybridGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Qwen3Next;

    /// <inheritdoc/>
    public override string Architecture => "qwen3next";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("linear_attn.in_proj_qkvz", "attn_qkv"),
        ("linear_attn.in_proj_qkvz", "attn_gate"),
        ("linear_attn.in_proj_ba", "ssm_ba"),
        .. QwenExperts.Modules,
    ];

    /// <summary>The checkpoint has queries, keys, values and gates by heads of keys, the file all queries first, and the gates in a tensor of their own.</summary>
    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var sizes = DeltaSizes.Of(config);
        var (keys, values) = ((long)sizes.KeyWidth, (long)sizes.Repeats * sizes.ValueWidth);
        long OfHeads(long row, long first, long count) => (row / count * 2 * (keys + values)) + first + (row % count);
        var (allKeys, allValues) = (sizes.KeyHeads * keys, sizes.KeyHeads * values);
        return GgufNames.Part(gguf) switch
        {
            "attn_qkv.weight" => new GgufForm { Rows = GgufForm.Order((2 * allKeys) + allValues, row => row < allKeys ? OfHeads(row, 0, keys) : row < 2 * allKeys ? OfHeads(row - allKeys, keys, keys) : OfHeads(row - (2 * allKeys), 2 * keys, values)) },
            "attn_gate.weight" => new GgufForm { Rows = GgufForm.Order(allValues, row => OfHeads(row, (2 * keys) + values, values)) },
            _ => base.FormOf(gguf, config),
        };
    }

    /// <inheritdoc/>
    public override int Experts(ConfigJson config) => QwenExperts.Count(config, Facts);

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        QwenExperts.Write(config, metadata, this);
        if (!(config.Has("norm_topk_prob") ? config.Flag("norm_topk_prob") : Facts.Experts!.Normalizes))
        {
            throw config.Error("norm_topk_prob", "llama.cpp assumes true for this family, so the result would differ from the model.");
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        var config = base.ReadSettings(file);
        QwenExperts.Read(file, config, this);
        config["norm_topk_prob"] = true;
        return config;
    }

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config) => QwenExperts.FeedForwardLength(config);
}
