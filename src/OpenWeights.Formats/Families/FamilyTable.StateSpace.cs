namespace OpenWeights.Formats.Families;

/// <content>Facts of state space models and their hybrids with attention.</content>
internal static partial class FamilyTable
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
    public static FamilyFacts GraniteMoeHybrid { get; } = GraniteMoe with { ModelType = "granitemoehybrid", ClassName = "GraniteMoeHybridForCausalLM" };

    /// <summary>Nemotron-H, Nemotron 3.</summary>
    public static FamilyFacts NemotronH { get; } = new()
    {
        ModelType = "nemotron_h",
        ClassName = "NemotronHForCausalLM",
        KeyValueHeads = 8,
        HeadDimension = 128,
        MaxPositions = 4096,
        NormEpsilon = 1e-5,
        ActivationSetting = "mlp_hidden_act",
        Activation = "relu2",
        Experts = new() { Count = 8, PerToken = 2, Inner = 7688, Normalizes = true },
        Layout = new(
            [new(@"^backbone\.", "model.")],
            [new(".mixer.experts.up_proj", ".mixer.experts.{e}.up_proj.weight"), new(".mixer.experts.down_proj", ".mixer.experts.{e}.down_proj.weight")])
        {
            OtherParts = ["mtp."],
        },
    };

    /// <summary>Jamba.</summary>
    public static FamilyFacts Jamba { get; } = new()
    {
        ModelType = "jamba",
        ClassName = "JambaForCausalLM",
        KeyValueHeads = 8,
        MaxPositions = 262144,
        Experts = new() { Count = 16, PerToken = 2 },
        Layout = ExpertLayouts.Of("feed_forward", "gate_proj", "up_proj", "down_proj"),
    };

    private static IReadOnlyList<FamilyFacts> StateSpace => [Mamba2, Bamba, FalconH1, GraniteMoeHybrid, NemotronH, Jamba];
}
