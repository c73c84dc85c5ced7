namespace OpenWeights.Formats.Families;

/// <content>Facts of decoders with mixtures of experts.</content>
internal static partial class FamilyTable
{
    /// <summary>Arcee's Trinity models.</summary>
    public static FamilyFacts Afmoe { get; } = new()
    {
        ModelType = "afmoe",
        ClassName = "AfmoeForCausalLM",
        HeadDimension = 128,
        MaxPositions = 16384,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        SlidingWindow = 1024,
        Experts = new() { Count = 64, PerToken = 6, Inner = 1408, SharedCount = 2, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>dots.llm1.</summary>
    public static FamilyFacts Dots1 { get; } = new()
    {
        ModelType = "dots1",
        ClassName = "Dots1ForCausalLM",
        KeyValueHeads = 32,
        AttentionBias = false,
        SlidingWindow = 4096,
        Experts = new() { Count = 128, PerToken = 6, Inner = 1408, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>ERNIE 4.5 with experts.</summary>
    public static FamilyFacts Ernie45Moe { get; } = new()
    {
        ModelType = "ernie4_5_moe",
        ClassName = "Ernie4_5_MoeForCausalLM",
        KeyValueHeads = 4,
        MaxPositions = 131072,
        RopeTheta = 500000,
        NormEpsilon = 1e-5,
        TiedEmbeddings = true,
        Experts = new() { Count = 64, PerToken = 6, Inner = 1536, SharedCount = 2, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>FlexOlmo.</summary>
    public static FamilyFacts FlexOlmo { get; } = new()
    {
        ModelType = "flex_olmo",
        ClassName = "FlexOlmoForCausalLM",
        MaxPositions = 4096,
        RopeTheta = 500000,
        AttentionBias = false,
        Experts = new() { Count = 7, PerToken = 5, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>GLM 4.5 to 4.7.</summary>
    public static FamilyFacts Glm4Moe { get; } = new()
    {
        ModelType = "glm4_moe",
        ClassName = "Glm4MoeForCausalLM",
        HasPredictionLayers = true,
        KeyValueHeads = 8,
        MaxPositions = 131072,
        NormEpsilon = 1e-5,
        PartialRotation = true,
        RotatedShare = 0.5,
        AttentionBias = false,
        Experts = new() { Count = 128, PerToken = 8, Inner = 1408, SharedCount = 1, Normalizes = true, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>GPT-OSS.</summary>
    public static FamilyFacts GptOss { get; } = new()
    {
        ModelType = "gpt_oss",
        ClassName = "GptOssForCausalLM",
        KeyValueHeads = 8,
        HeadDimension = 64,
        MaxPositions = 131072,
        RopeTheta = 150000,
        NormEpsilon = 1e-5,
        AttentionBias = true,
        SlidingWindow = 128,
        Experts = new() { Count = 128, PerToken = 4 },
        OverflowsInFloat16 = true,
    };

    /// <summary>Granite 3 with experts.</summary>
    public static FamilyFacts GraniteMoe { get; } = new()
    {
        ModelType = "granitemoe",
        ClassName = "GraniteMoeForCausalLM",
        AttentionBias = false,
        Experts = new() { Count = 8, PerToken = 2 },
        Layout = ExpertLayouts.Granite,
    };

    /// <summary>Granite 3 with experts of which one is shared.</summary>
    public static FamilyFacts GraniteMoeShared { get; } = GraniteMoe with { ModelType = "granitemoeshared", ClassName = "GraniteMoeSharedForCausalLM" };

    /// <summary>Hunyuan-A13B.</summary>
    public static FamilyFacts HunyuanMoe { get; } = new()
    {
        ModelType = "hunyuan_v1_moe",
        ClassName = "HunYuanMoEV1ForCausalLM",
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Experts = new() { Count = 1, PerToken = 1, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>Hy 3.</summary>
    public static FamilyFacts Hy3 { get; } = new()
    {
        ModelType = "hy_v3",
        ClassName = "HYV3ForCausalLM",
        HasPredictionLayers = true,
        KeyValueHeads = 8,
        HeadDimension = 128,
        MaxPositions = 131072,
        RopeTheta = 11158840,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Experts = new() { Count = 192, PerToken = 8, Inner = 1536, SharedCount = 1, Scale = 2.826 },
        Layout = ExpertLayouts.OneByOne with
        {
            Renames =
            [
                new(@"\.mlp\.router\.gate\.", ".mlp.gate."),
                new(@"\.mlp\.expert_bias$", ".mlp.e_score_correction_bias"),
                new(@"\.mlp\.shared_mlp\.", ".mlp.shared_experts."),
            ],
        },
    };

    /// <summary>Text models of Llama 4.</summary>
    public static FamilyFacts Llama4Text { get; } = new()
    {
        ModelType = "llama4_text",
        ClassName = "Llama4ForCausalLM",
        KeyValueHeads = 8,
        HeadDimension = 128,
        MaxPositions = 4096 * 32,
        RopeTheta = 500000,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Experts = new() { Count = 16, PerToken = 1 },
    };

    /// <summary>Mellum 2.</summary>
    public static FamilyFacts Mellum { get; } = new()
    {
        ModelType = "mellum",
        ClassName = "MellumForCausalLM",
        KeyValueHeads = 4,
        HeadDimension = 128,
        MaxPositions = 131072,
        AttentionBias = false,
        SlidingWindow = 1024,
        Experts = new() { Count = 64, PerToken = 8, Inner = 896, Normalizes = true, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>MiMo-V2-Flash.</summary>
    public static FamilyFacts MiMoV2Flash { get; } = new()
    {
        ModelType = "mimo_v2_flash",
        ClassName = "MiMoV2FlashForCausalLM",
        KeyValueHeads = 4,
        HeadDimension = 192,
        MaxPositions = 131072,
        NormEpsilon = 1e-5,
        RopeTheta = 5e6,
        PartialRotation = true,
        RotatedShare = 0.334,
        AttentionBias = false,
        SlidingWindow = 128,
        Experts = new() { Count = 256, PerToken = 8, Inner = 2048, Normalizes = true },
        Layout = ExpertLayouts.OneByOne with { Renames = [new(@"\.self_attn\.attention_sink_bias$", ".self_attn.sinks")] },
    };

    /// <summary>MiniMax-M2.</summary>
    public static FamilyFacts MiniMaxM2 { get; } = new()
    {
        ModelType = "minimax_m2",
        ClassName = "MiniMaxM2ForCausalLM",
        KeyValueHeads = 8,
        HeadDimension = 128,
        MaxPositions = 196608,
        RopeTheta = 5e6,
        PartialRotation = true,
        Experts = new() { Count = 256, PerToken = 8, Targets = ExpertTargets.Mixtral },
        Layout = ExpertLayouts.Mixtral,
    };

    /// <summary>OLMoE.</summary>
    public static FamilyFacts Olmoe { get; } = new()
    {
        ModelType = "olmoe",
        ClassName = "OlmoeForCausalLM",
        MaxPositions = 4096,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Experts = new() { Count = 64, PerToken = 8, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>Phi-3.5-MoE.</summary>
    public static FamilyFacts PhiMoe { get; } = new()
    {
        ModelType = "phimoe",
        ClassName = "PhimoeForCausalLM",
        KeyValueHeads = 8,
        MaxPositions = 4096 * 32,
        RopeTheta = 1e6,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Experts = new() { Count = 16, PerToken = 2 },
        Layout = ExpertLayouts.Mixtral with { Renames = [new(@"\.block_sparse_moe\.gate\.", ".mlp.router."), new(@"\.block_sparse_moe\.experts\.", ".mlp.experts.")] },
    };

    /// <summary>Solar Open.</summary>
    public static FamilyFacts SolarOpen { get; } = Glm4Moe with
    {
        ModelType = "solar_open",
        ClassName = "SolarOpenForCausalLM",
        HeadDimension = 128,
        RopeTheta = 1e6,
        RotatedShare = 1,
        Experts = new() { Count = 128, PerToken = 8, Inner = 1280, SharedCount = 1, Normalizes = true, Targets = ExpertTargets.GateUpDown },
    };

    private static IReadOnlyList<FamilyFacts> Mixtures =>
    [
        Afmoe, Dots1, Ernie45Moe, FlexOlmo, Glm4Moe, GptOss, GraniteMoe, GraniteMoeShared, HunyuanMoe, Hy3, Llama4Text, Mellum, MiMoV2Flash, MiniMaxM2, Olmoe, PhiMoe, SolarOpen,
    ];
}

/// <summary>How checkpoints store experts.</summary>
internal static class ExpertLayouts
{
    /// <summary>One tensor for each matrix of each expert, with the names of most families.</summary>
    public static CheckpointLayout OneByOne { get; } = Of("mlp", "gate_proj", "up_proj", "down_proj");

    /// <summary>One tensor for each matrix of each expert, with Mixtral's names.</summary>
    public static CheckpointLayout Mixtral { get; } = Of("mlp", "w1", "w3", "w2") with { Renames = [new(@"\.block_sparse_moe\.", ".mlp.")] };

    /// <summary>One tensor for all experts, with the names of Granite.</summary>
    public static CheckpointLayout Granite { get; } = new(
        [
            new(@"\.block_sparse_moe\.input_linear\.weight$", ".block_sparse_moe.experts.gate_up_proj"),
            new(@"\.block_sparse_moe\.output_linear\.weight$", ".block_sparse_moe.experts.down_proj"),
            new(@"\.block_sparse_moe\.router\.layer\.", ".block_sparse_moe.router."),
        ],
        []);

    /// <summary>One tensor for each matrix of each expert.</summary>
    /// <param name="module">Name of the mixture in its layer.</param>
    /// <param name="gate">The gate projection.</param>
    /// <param name="up">The up projection.</param>
    /// <param name="down">The down projection.</param>
    public static CheckpointLayout Of(string module, string gate, string up, string down) => new(
        [],
        [
            new($".{module}.experts.gate_up_proj", $".{module}.experts.{{e}}.{gate}.weight", $".{module}.experts.{{e}}.{up}.weight"),
            new($".{module}.experts.down_proj", $".{module}.experts.{{e}}.{down}.weight"),
        ]);
}
