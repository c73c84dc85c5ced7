using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>The text models of Qwen 2.5 VL and Qwen 3 VL. The parts of a position are equal in texts, so that the files are read as Qwen 2 and Qwen 3.</summary>
internal abstract class QwenVisionGguf : GgufFamily
{
    private readonly GgufFamily _text;

    /// <summary>A family.</summary>
    /// <param name="text">The family that computes the same for texts.</param>
    protected QwenVisionGguf(GgufFamily text) => _text = text;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules => _text.Modules;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseWindows(config);
        metadata.Add($"{Architecture}.rope.dimension_sections", RotarySections.Of(config, HeadLength(config) / 2));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["architectures"] = new JsonArray(_text.Facts.ClassName);
        config["model_type"] = _text.Facts.ModelType;
        return config;
    }
}

/// <summary>The text models of Qwen 2.5 VL.</summary>
internal sealed class Qwen25VisionGguf : QwenVisionGguf
{
    /// <summary>The family.</summary>
    public Qwen25VisionGguf()
        : base(new Qwen2Gguf())
    {
    }

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Qwen25VisionText;

    /// <inheritdoc/>
    public override string Architecture => "qwen2vl";

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        RequireUsualHeads(config);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        return config;
    }
}

/// <summary>The text models of Qwen 3 VL.</summary>
internal sealed class Qwen3VisionGguf : QwenVisionGguf
{
    /// <summary>The family.</summary>
    public Qwen3VisionGguf()
        : base(new Qwen3Gguf())
    {
    }

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Qwen3VisionText;

    /// <inheritdoc/>
    public override string Architecture => "qwen3vl";
}
