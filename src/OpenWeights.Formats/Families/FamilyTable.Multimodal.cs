namespace OpenWeights.Formats.Families;

/// <content>Facts of multimodal models, of which the text model is read.</content>
public static partial class FamilyTable
{
    private static IReadOnlyList<FamilyFacts> Multimodal => [];
}
