namespace OpenWeights.Formats.Families;

/// <content>Facts of Gemma 3n and 4.</content>
public static partial class FamilyTable
{
    private static IReadOnlyList<FamilyFacts> LateGemmas => [];
}
