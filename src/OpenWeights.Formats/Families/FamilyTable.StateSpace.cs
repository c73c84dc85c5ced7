namespace OpenWeights.Formats.Families;

/// <content>Facts of state space models and their hybrids with attention.</content>
public static partial class FamilyTable
{
    private static IReadOnlyList<FamilyFacts> StateSpace => [];
}
