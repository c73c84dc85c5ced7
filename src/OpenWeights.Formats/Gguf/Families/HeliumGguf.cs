using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Helium 1, which llama.cpp runs as llama: its rotary layout is llama.cpp's already, so that the file is read as Llama.</summary>
internal sealed class HeliumGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Helium;

    /// <inheritdoc/>
    public override string Architecture => "llama";

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file) => false;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        LlamaGguf.WriteLlamaSettings(config, metadata, this);
    }
}
