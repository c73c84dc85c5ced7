namespace OpenWeights.Formats.Families;

/// <content>Facts of decoders with latent attention.</content>
public static partial class FamilyTable
{
    /// <summary>MiniCPM 3.</summary>
    public static FamilyFacts MiniCpm3 { get; } = new()
    {
        ModelType = "minicpm3",
        ClassName = "MiniCPM3ForCausalLM",
        MaxPositions = 32768,
        NormEpsilon = 1e-5,
        TiedEmbeddings = true,
        Latent = new(QueryRank: 768, Width: 256, Plain: 64, Rotated: 32, Value: null),
    };

    private static IReadOnlyList<FamilyFacts> Latent => [MiniCpm3];
}
