namespace OpenWeights.Formats.Families;

/// <content>Facts of decoders with latent attention.</content>
public static partial class FamilyTable
{
    private static IReadOnlyList<FamilyFacts> Latent => [];
}
