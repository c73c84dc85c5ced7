namespace OpenWeights.Formats.Families;

/// <content>Facts of dense decoders.</content>
internal static partial class FamilyTable
{
    /// <summary>Apertus.</summary>
    public static FamilyFacts Apertus { get; } = new()
    {
        ModelType = "apertus",
        ClassName = "ApertusForCausalLM",
        MaxPositions = 65536,
        RopeTheta = 1.2e7,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Activation = "xielu",
    };

    /// <summary>Arcee's foundation models (AFM).</summary>
    public static FamilyFacts Arcee { get; } = new()
    {
        ModelType = "arcee",
        ClassName = "ArceeForCausalLM",
        MaxPositions = 4096,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Activation = "relu2",
    };

    /// <summary>Command R.</summary>
    public static FamilyFacts Cohere { get; } = new()
    {
        ModelType = "cohere",
        ClassName = "CohereForCausalLM",
        MaxPositions = 8192,
        RopeTheta = 5e5,
        NormEpsilonSetting = "layer_norm_eps",
        NormEpsilon = 1e-5,
        TiedEmbeddings = true,
        AttentionBias = false,
    };

    /// <summary>Command R7B and Command A.</summary>
    public static FamilyFacts Cohere2 { get; } = new()
    {
        ModelType = "cohere2",
        ClassName = "Cohere2ForCausalLM",
        MaxPositions = 8192,
        NormEpsilonSetting = "layer_norm_eps",
        NormEpsilon = 1e-5,
        TiedEmbeddings = true,
        AttentionBias = false,
        SlidingWindow = 4096,
    };

    /// <summary>ERNIE 4.5 without experts.</summary>
    public static FamilyFacts Ernie45 { get; } = new()
    {
        ModelType = "ernie4_5",
        ClassName = "Ernie4_5ForCausalLM",
        KeyValueHeads = 2,
        HeadDimension = 128,
        MaxPositions = 131072,
        RopeTheta = 5e5,
        NormEpsilon = 1e-5,
        TiedEmbeddings = true,
    };

    /// <summary>EXAONE 4.</summary>
    public static FamilyFacts Exaone4 { get; } = new()
    {
        ModelType = "exaone4",
        ClassName = "Exaone4ForCausalLM",
        KeyValueHeads = 32,
        NormEpsilon = 1e-5,
        SlidingWindow = 4096,
    };

    /// <summary>GLM-4 9B.</summary>
    public static FamilyFacts Glm { get; } = new()
    {
        ModelType = "glm",
        ClassName = "GlmForCausalLM",
        KeyValueHeads = 2,
        HeadDimension = 128,
        MaxPositions = 131072,
        PartialRotation = true,
        RotatedShare = 0.5,
        NormEpsilon = 1.5625e-7,
        AttentionBias = true,
    };

    /// <summary>GLM-4-0414.</summary>
    public static FamilyFacts Glm4 { get; } = new()
    {
        ModelType = "glm4",
        ClassName = "Glm4ForCausalLM",
        KeyValueHeads = 2,
        HeadDimension = 128,
        MaxPositions = 131072,
        PartialRotation = true,
        RotatedShare = 0.5,
        NormEpsilon = 1.5625e-7,
        AttentionBias = true,
        OverflowsInFloat16 = true,
    };

    /// <summary>GPT-NeoX and Pythia.</summary>
    public static FamilyFacts GptNeoX { get; } = new()
    {
        ModelType = "gpt_neox",
        ClassName = "GPTNeoXForCausalLM",
        PartialRotation = true,
        RotatedShare = 0.25,
        NormEpsilonSetting = "layer_norm_eps",
        NormEpsilon = 1e-5,
        AttentionBias = true,
        Activation = "gelu",
        Layout = new([new(@"^embed_out\.", "lm_head.")], []),
    };

    /// <summary>Granite with sliding windows.</summary>
    public static FamilyFacts GraniteSwa { get; } = new()
    {
        ModelType = "granite_swa",
        ClassName = "GraniteSWAForCausalLM",
        KeyValueHeads = 4,
        MaxPositions = 8192,
        NormEpsilon = 1e-5,
        TiedEmbeddings = true,
        AttentionBias = false,
        SlidingWindow = 128,
    };

    /// <summary>Helium 1.</summary>
    public static FamilyFacts Helium { get; } = new()
    {
        ModelType = "helium",
        ClassName = "HeliumForCausalLM",
        KeyValueHeads = 20,
        HeadDimension = 128,
        MaxPositions = 4096,
        RopeTheta = 1e5,
        NormEpsilon = 1e-8,
        AttentionBias = false,
    };

    /// <summary>Hunyuan's dense models.</summary>
    public static FamilyFacts HunYuanDense { get; } = new()
    {
        ModelType = "hunyuan_v1_dense",
        ClassName = "HunYuanDenseV1ForCausalLM",
        IgnoresDropout = true,
        NormEpsilon = 1e-5,
        AttentionBias = false,
    };

    /// <summary>InternLM 3.</summary>
    public static FamilyFacts InternLm3 { get; } = new()
    {
        ModelType = "internlm3",
        ClassName = "InternLM3ForCausalLM",
        KeyValueHeads = 32,
        MaxPositions = 32768,
        AttentionBias = false,
    };

    /// <summary>Ministral 3.</summary>
    public static FamilyFacts Ministral3 { get; } = new()
    {
        ModelType = "ministral3",
        ClassName = "Ministral3ForCausalLM",
        KeyValueHeads = 8,
        HeadDimension = 128,
        MaxPositions = 262144,
        RopeTheta = 1e6,
        NormEpsilon = 1e-5,
    };

    /// <summary>nanochat.</summary>
    public static FamilyFacts NanoChat { get; } = new()
    {
        ModelType = "nanochat",
        ClassName = "NanoChatForCausalLM",
        AttentionBias = false,
        Activation = "relu2",
        LogitSoftCap = 15,
    };

    /// <summary>Nemotron 3 and 4, and Minitron.</summary>
    public static FamilyFacts Nemotron { get; } = new()
    {
        ModelType = "nemotron",
        ClassName = "NemotronForCausalLM",
        MaxPositions = 4096,
        PartialRotation = true,
        RotatedShare = 0.5,
        NormEpsilonSetting = "norm_eps",
        NormEpsilon = 1e-5,
        AttentionBias = false,
        Activation = "relu2",
    };

    /// <summary>OLMo 3.</summary>
    public static FamilyFacts Olmo3 { get; } = new()
    {
        ModelType = "olmo3",
        ClassName = "Olmo3ForCausalLM",
        RopeTheta = 5e5,
        NormEpsilon = 1e-5,
        AttentionBias = false,
        SlidingWindow = 4096,
    };

    /// <summary>Phi-1, Phi-1.5 and Phi-2.</summary>
    public static FamilyFacts Phi { get; } = new()
    {
        ModelType = "phi",
        ClassName = "PhiForCausalLM",
        PartialRotation = true,
        RotatedShare = 0.5,
        NormEpsilonSetting = "layer_norm_eps",
        NormEpsilon = 1e-5,
        IgnoresDropout = true,
        Activation = "gelu_new",
    };

    /// <summary>Seed-OSS.</summary>
    public static FamilyFacts SeedOss { get; } = new()
    {
        ModelType = "seed_oss",
        ClassName = "SeedOssForCausalLM",
        KeyValueHeads = 8,
        HeadDimension = 128,
        MaxPositions = 524288,
        IgnoresDropout = true,
        AttentionBias = true,
    };

    /// <summary>StableLM 3B and StableLM 2.</summary>
    public static FamilyFacts StableLm { get; } = new()
    {
        ModelType = "stablelm",
        ClassName = "StableLmForCausalLM",
        KeyValueHeads = 32,
        MaxPositions = 4096,
        PartialRotation = true,
        RotatedShare = 0.25,
        NormEpsilonSetting = "layer_norm_eps",
        NormEpsilon = 1e-5,
    };

    /// <summary>StarCoder 2.</summary>
    public static FamilyFacts StarCoder2 { get; } = new()
    {
        ModelType = "starcoder2",
        ClassName = "Starcoder2ForCausalLM",
        KeyValueHeads = 2,
        MaxPositions = 4096,
        NormEpsilonSetting = "norm_epsilon",
        NormEpsilon = 1e-5,
        IgnoresDropout = true,
        TiedEmbeddings = true,
        Activation = "gelu_pytorch_tanh",
    };

    /// <summary>VaultGemma.</summary>
    public static FamilyFacts VaultGemma { get; } = new()
    {
        ModelType = "vaultgemma",
        ClassName = "VaultGemmaForCausalLM",
        KeyValueHeads = 4,
        HeadDimension = 256,
        MaxPositions = 8192,
        TiedEmbeddings = true,
        AttentionBias = false,
        ActivationSetting = "hidden_activation",
        Activation = "gelu_pytorch_tanh",
        OverflowsInFloat16 = true,
        SlidingWindow = 4096,
        ScoreSoftCap = 50,
        LogitSoftCap = 30,
    };

    private static IReadOnlyList<FamilyFacts> Dense =>
    [
        Apertus, Arcee, Cohere, Cohere2, Ernie45, Exaone4, Glm, Glm4, GptNeoX, GraniteSwa, Helium,
        HunYuanDense, InternLm3, Ministral3, NanoChat, Nemotron, Olmo3, Phi, SeedOss, StableLm, StarCoder2, VaultGemma,
    ];
}
