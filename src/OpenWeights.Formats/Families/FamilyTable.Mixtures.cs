namespace OpenWeights.Formats.Families;

/// <content>Facts of decoders with mixtures of experts.</content>
public static partial class FamilyTable
{
    private static IReadOnlyList<FamilyFacts> Mixtures => [];
}
