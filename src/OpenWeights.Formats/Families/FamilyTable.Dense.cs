namespace OpenWeights.Formats.Families;

/// <content>Facts of dense decoders.</content>
public static partial class FamilyTable
{
    private static IReadOnlyList<FamilyFacts> Dense => [];
}
