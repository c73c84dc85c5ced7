namespace OpenWeights.Formats.Families;

/// <content>Facts of state space models and their hybrids with attention.</content>
public static partial class FamilyTable
{
    /// <summary>Mamba-2, Codestral Mamba. It has no positions, and so no limit of them.</summary>
    public static FamilyFacts Mamba2 { get; } = new() { ModelType = "mamba2", ClassName = "Mamba2ForCausalLM", MaxPositions = 1 << 20, NormEpsilon = 1e-5 };

    /// <summary>Bamba.</summary>
    public static FamilyFacts Bamba { get; } = new()
    {
        ModelType = "bamba",
        ClassName = "BambaForCausalLM",
        KeyValueHeads = 8,
        MaxPositions = 262144,
        NormEpsilon = 1e-5,
        PartialRotation = true,
        AttentionBias = false,
    };

    /// <summary>Falcon-H1.</summary>
    public static FamilyFacts FalconH1 { get; } = new()
    {
        ModelType = "falcon_h1",
        ClassName = "FalconH1ForCausalLM",
        KeyValueHeads = 8,
        MaxPositions = 8192,
        NormEpsilon = 1e-5,
        AttentionBias = false,
    };

    /// <summary>Granite 4 with Mamba-2.</summary>
    public static FamilyFacts GraniteMoeHybrid { get; } = new() { ModelType = "granitemoehybrid", ClassName = "GraniteMoeHybridForCausalLM", AttentionBias = false };

    private static IReadOnlyList<FamilyFacts> StateSpace => [Mamba2, Bamba, FalconH1, GraniteMoeHybrid];
}
