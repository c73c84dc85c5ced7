namespace OpenWeights.Formats.Families;

/// <content>Facts of hybrids of attention with linear attention or short convolutions.</content>
public static partial class FamilyTable
{
    private static IReadOnlyList<FamilyFacts> LinearAttention => [];
}
