namespace OpenWeights.Formats.Families;

/// <content>Facts of decoders with latent attention.</content>
internal static partial class FamilyTable
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

    /// <summary>DeepSeek V2.</summary>
    public static FamilyFacts DeepSeekV2 { get; } = new()
    {
        ModelType = "deepseek_v2",
        ClassName = "DeepseekV2ForCausalLM",
        Experts = new() { Count = 64, PerToken = 6, Inner = 1407, SharedCount = 2, Targets = ExpertTargets.GateUpDown },
        Latent = new(QueryRank: 1536, Width: 512, Plain: 128, Rotated: 64, Value: 128),
        Layout = ExpertLayouts.OneByOne,
        OverflowsInFloat16 = true,
    };

    /// <summary>DeepSeek V3, and models of its architecture such as Moonlight.</summary>
    public static FamilyFacts DeepSeekV3 { get; } = new()
    {
        ModelType = "deepseek_v3",
        ClassName = "DeepseekV3ForCausalLM",
        HasPredictionLayers = true,
        MaxPositions = 4096,
        Experts = new() { Count = 256, PerToken = 8, Inner = 2048, SharedCount = 1, Normalizes = true, Scale = 2.5, Groups = 8, ChosenGroups = 4, Targets = ExpertTargets.GateUpDown },
        Latent = new(QueryRank: 1536, Width: 512, Plain: 128, Rotated: 64, Value: 128),
        Layout = ExpertLayouts.OneByOne,
        OverflowsInFloat16 = true,
    };

    /// <summary>GLM 4.7 Flash.</summary>
    public static FamilyFacts Glm4MoeLite { get; } = new()
    {
        ModelType = "glm4_moe_lite",
        ClassName = "Glm4MoeLiteForCausalLM",
        HasPredictionLayers = true,
        MaxPositions = 202752,
        NormEpsilon = 1e-5,
        Experts = new() { Count = 64, PerToken = 4, Inner = 1536, SharedCount = 1, Normalizes = true, Scale = 1.8, Targets = ExpertTargets.GateUpDown },
        Latent = new(QueryRank: 768, Width: 512, Plain: 192, Rotated: 64, Value: 256),
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>Mistral 4.</summary>
    public static FamilyFacts Mistral4 { get; } = new()
    {
        ModelType = "mistral4",
        ClassName = "Mistral4ForCausalLM",
        MaxPositions = 1048576,
        PartialRotation = true,
        Experts = new() { Count = 128, PerToken = 4, Inner = 2048, SharedCount = 1, Normalizes = true },
        Latent = new(QueryRank: 1024, Width: 256, Plain: 64, Rotated: 64, Value: 128),
    };

    private static IReadOnlyList<FamilyFacts> Latent => [MiniCpm3, DeepSeekV2, DeepSeekV3, Glm4MoeLite, Mistral4];
}
