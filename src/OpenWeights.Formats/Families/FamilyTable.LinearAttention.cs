namespace OpenWeights.Formats.Families;

/// <content>Facts of hybrids of attention with linear attention or short convolutions.</content>
internal static partial class FamilyTable
{
    /// <summary>Text models of Qwen 3.5.</summary>
    public static FamilyFacts Qwen35Text { get; } = new()
    {
        ModelType = "qwen3_5_text",
        ClassName = "Qwen3_5ForCausalLM",
        KeyValueHeads = 4,
        HeadDimension = 256,
        MaxPositions = 32768,
        PartialRotation = true,
        RotatedShare = 0.25,
        AttentionBias = false,
        Layout = new([], []) { OtherParts = ["mtp."] },
    };

    /// <summary>Text models of Qwen 3.5 with experts.</summary>
    public static FamilyFacts Qwen35MoeText { get; } = Qwen35Text with
    {
        ModelType = "qwen3_5_moe_text",
        ClassName = "Qwen3_5MoeForCausalLM",
        KeyValueHeads = 2,
        Experts = new() { Count = 256, PerToken = 8, Inner = 512, Shared = 512 },
        Layout = ExpertLayouts.OneByOne with { OtherParts = ["mtp."] },
    };

    /// <summary>Qwen3-Next.</summary>
    public static FamilyFacts Qwen3Next { get; } = Qwen35MoeText with
    {
        ModelType = "qwen3_next",
        ClassName = "Qwen3NextForCausalLM",
        Experts = new() { Count = 512, PerToken = 10, Inner = 512, Shared = 512, Normalizes = true, Targets = ExpertTargets.GateUpDown },
    };

    /// <summary>OLMo Hybrid.</summary>
    public static FamilyFacts OlmoHybrid { get; } = new()
    {
        ModelType = "olmo_hybrid",
        ClassName = "OlmoHybridForCausalLM",
        MaxPositions = 65536,
        AttentionBias = false,
        Layout = new(
            [new(@"\.attention_layer_norm\.", ".input_layernorm."), new(@"\.feedforward_layer_norm\.", ".post_attention_layernorm.")],
            [new(".linear_attn.conv1d.weight", ".linear_attn.q_conv1d.weight", ".linear_attn.k_conv1d.weight", ".linear_attn.v_conv1d.weight")]),
    };

    /// <summary>Kimi Linear.</summary>
    public static FamilyFacts KimiLinear { get; } = new()
    {
        ModelType = "kimi_linear",
        ClassName = "KimiLinearForCausalLM",
        KeyValueHeads = 32,
        MaxPositions = 1048576,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Latent = new(QueryRank: null, Width: 512, Plain: 128, Rotated: 64, Value: 128),
        Experts = new() { Count = 256, PerToken = 8, Inner = 1024, SharedCount = 1, Normalizes = true, Scale = 2.446 },
        Layout = ExpertLayouts.Mixtral with
        {
            Renames = [.. ExpertLayouts.Mixtral.Renames, new(@"\.self_attn\.(A_log|dt_bias|f_a_proj\.weight|f_b_proj\.weight)$", ".self_attn.forget_gate.$1")],
            Joins =
            [
                .. ExpertLayouts.Mixtral.Joins,
                new(".self_attn.conv1d.weight", ".self_attn.q_conv1d.weight", ".self_attn.k_conv1d.weight", ".self_attn.v_conv1d.weight"),
            ],
        },
    };

    /// <summary>LFM 2.</summary>
    public static FamilyFacts Lfm2 { get; } = new()
    {
        ModelType = "lfm2",
        ClassName = "Lfm2ForCausalLM",
        KeyValueHeads = 8,
        MaxPositions = 128000,
        RopeTheta = 1e6,
        NormEpsilon = 1e-5,
        TiedEmbeddings = true,
    };

    /// <summary>LFM 2 with experts.</summary>
    public static FamilyFacts Lfm2Moe { get; } = Lfm2 with
    {
        ModelType = "lfm2_moe",
        ClassName = "Lfm2MoeForCausalLM",
        Experts = new() { Count = 32, PerToken = 4, Inner = 1792, Normalizes = true },
        Layout = ExpertLayouts.Of("feed_forward", "w1", "w3", "w2"),
    };

    /// <summary>LFM 3.</summary>
    public static FamilyFacts Lfm3 { get; } = Lfm2 with
    {
        ModelType = "lfm3",
        ClassName = "Lfm3ForCausalLM",
        AttentionBias = false,
        Layout = new([new(@"\.self_attn\.gate_proj\.", ".self_attn.g_proj.")], []),
    };

    private static IReadOnlyList<FamilyFacts> LinearAttention => [Qwen35Text, Qwen35MoeText, Qwen3Next, OlmoHybrid, KimiLinear, Lfm2, Lfm2Moe, Lfm3];
}
