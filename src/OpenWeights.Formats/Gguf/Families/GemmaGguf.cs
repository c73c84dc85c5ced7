using OpenWeights.Formats.Families;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Gemma 1.</summary>
internal class GemmaGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Gemma;

    /// <inheritdoc/>
    public override string Architecture => "gemma";

    /// <inheritdoc/>
    public override float NormOffset => 1;

    /// <inheritdoc/>
    public override bool HasHead => false;
}
