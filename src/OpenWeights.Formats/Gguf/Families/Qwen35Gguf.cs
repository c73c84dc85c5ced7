using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// Qwen 3.5's text models. llama.cpp gives value head i the key head i modulo their number, so that the file has the value heads in another
/// order than the checkpoint, in which those of a key head follow each other.
/// </summary>
internal class Qwen35Gguf : QwenHybridGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Qwen35Text;

    /// <inheritdoc/>
    public override string Architecture => "qwen35";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules,
        ("linear_attn.in_proj_qkv", "attn_qkv"),
        ("linear_attn.in_proj_z", "attn_gate"),
        ("linear_attn.in_proj_b", "ssm_beta"),
        ("linear_attn.in_proj_a", "ssm_alpha"),
    ];

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (form, sizes) = (base.FormOf(gguf, config), DeltaSizes.Of(config));
        var keys = 2L * sizes.KeyHeads * sizes.KeyWidth;
        return GgufNames.Part(gguf) switch
        {
            "attn_qkv.weight" or "ssm_conv1d.weight" => form with { Rows = Values(sizes, keys, sizes.ValueWidth) },
            "attn_gate.weight" => form with { Rows = Values(sizes, 0, sizes.ValueWidth) },
            "ssm_beta.weight" or "ssm_alpha.weight" or "ssm_a" or "ssm_dt.bias" => form with { Rows = Values(sizes, 0, 1) },
            "ssm_out.weight" => form with { Columns = Values(sizes, 0, sizes.ValueWidth) },
            _ => form,
        };
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        metadata.Add($"{Architecture}.rope.dimension_sections", RotarySections.Of(config, RotatedLength(config) / 2));
    }

    // The checkpoint's place for each of the file's, of values by heads, which come after the first rows.
    private static IReadOnlyList<int> Values(DeltaSizes sizes, long first, int width) => GgufForm.Order(first + ((long)sizes.ValueHeads * width), row =>
    {
        var (head, inner) = Math.DivRem(row - first, Math.Max(1, width));
        var keyHeads = Math.Max(1, sizes.KeyHeads);
        return row < first ? row : first + ((((head % keyHeads) * sizes.Repeats) + (head / keyHeads)) * (long)width) + inner;
    });
}

/// <summary>Qwen 3.5's text models with experts.</summary>
internal sealed class Qwen35MoeGguf : Qwen35Gguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Qwen35MoeText;

    /// <inheritdoc/>
    public override string Architecture => "qwen35moe";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
        [.. MixtureKeys.WithoutFeedForward(base.Modules), .. QwenExperts.Modules];

    /// <inheritdoc/>
    public override int Experts(ConfigJson config) => QwenExperts.Count(config, Facts);

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        QwenExperts.Write(config, metadata, this);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        var config = base.ReadSettings(file);
        QwenExperts.Read(file, config, this);
        return config;
    }

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config) => QwenExperts.FeedForwardLength(config);
}
