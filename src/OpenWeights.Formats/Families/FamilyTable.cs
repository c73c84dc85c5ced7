using System.Text.Json.Nodes;

namespace OpenWeights.Formats.Families;

/// <summary>The facts of every model family.</summary>
internal static partial class FamilyTable
{
    /// <summary>Llama 1 to 3.3, SmolLM 1 and 2.</summary>
    public static FamilyFacts Llama { get; } = new() { ModelType = "llama", ClassName = "LlamaForCausalLM", AttentionBias = false };

    /// <summary>Mistral.</summary>
    public static FamilyFacts Mistral { get; } = new()
    {
        ModelType = "mistral",
        ClassName = "MistralForCausalLM",
        KeyValueHeads = 8,
        MaxPositions = 4096 * 32,
        SlidingWindow = 4096,
    };

    /// <summary>Mixtral.</summary>
    public static FamilyFacts Mixtral { get; } = new()
    {
        ModelType = "mixtral",
        ClassName = "MixtralForCausalLM",
        KeyValueHeads = 8,
        MaxPositions = 4096 * 32,
        NormEpsilon = 1e-5,
        RopeTheta = 1e6,
        Experts = new() { Count = 8, PerToken = 2, Targets = ExpertTargets.Mixtral },
        Layout = ExpertLayouts.Mixtral,
    };

    /// <summary>Qwen 2 and 2.5.</summary>
    public static FamilyFacts Qwen2 { get; } = new() { ModelType = "qwen2", ClassName = "Qwen2ForCausalLM", KeyValueHeads = 32, MaxPositions = 32768, SlidingWindow = 4096 };

    /// <summary>Qwen 1.5 MoE and Qwen 2 MoE.</summary>
    public static FamilyFacts Qwen2Moe { get; } = new()
    {
        ModelType = "qwen2_moe",
        ClassName = "Qwen2MoeForCausalLM",
        KeyValueHeads = 16,
        MaxPositions = 32768,
        SlidingWindow = 4096,
        Experts = new() { Count = 60, PerToken = 4, Inner = 1408, Shared = 5632 },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>Qwen 3.</summary>
    public static FamilyFacts Qwen3 { get; } = new()
    {
        ModelType = "qwen3",
        ClassName = "Qwen3ForCausalLM",
        KeyValueHeads = 32,
        HeadDimension = 128,
        MaxPositions = 32768,
        AttentionBias = false,
        SlidingWindow = 4096,
    };

    /// <summary>Qwen 3 MoE.</summary>
    public static FamilyFacts Qwen3Moe { get; } = new()
    {
        ModelType = "qwen3_moe",
        ClassName = "Qwen3MoeForCausalLM",
        KeyValueHeads = 4,
        MaxPositions = 32768,
        AttentionBias = false,
        SlidingWindow = 4096,
        Experts = new() { Count = 128, PerToken = 8, Inner = 768, Targets = ExpertTargets.GateUpDown },
        Layout = ExpertLayouts.OneByOne,
    };

    /// <summary>Gemma 1.</summary>
    public static FamilyFacts Gemma { get; } = new()
    {
        ModelType = "gemma",
        ClassName = "GemmaForCausalLM",
        KeyValueHeads = 16,
        HeadDimension = 256,
        MaxPositions = 8192,
        TiedEmbeddings = true,
        AttentionBias = false,
        ActivationSetting = "hidden_activation",
        Activation = "gelu_pytorch_tanh",
        OverflowsInFloat16 = true,
    };

    /// <summary>Gemma 2.</summary>
    public static FamilyFacts Gemma2 { get; } = Gemma with
    {
        ModelType = "gemma2",
        ClassName = "Gemma2ForCausalLM",
        KeyValueHeads = 4,
        SlidingWindow = 4096,
        ScoreSoftCap = 50,
        LogitSoftCap = 30,
    };

    /// <summary>Gemma 3's text models.</summary>
    public static FamilyFacts Gemma3Text { get; } = Gemma with
    {
        ModelType = "gemma3_text",
        ClassName = "Gemma3ForCausalLM",
        KeyValueHeads = 4,
        MaxPositions = 131072,
        RopeTheta = 1e6,
        SlidingWindow = 4096,
    };

    /// <summary>Phi-3 to Phi-4-mini.</summary>
    public static FamilyFacts Phi3 { get; } = new()
    {
        ModelType = "phi3",
        ClassName = "Phi3ForCausalLM",
        MaxPositions = 4096,
        OriginalMaxPositions = 4096,
        NormEpsilon = 1e-5,
        PartialRotation = true,
    };

    /// <summary>Granite 3.</summary>
    public static FamilyFacts Granite { get; } = new() { ModelType = "granite", ClassName = "GraniteForCausalLM", AttentionBias = false };

    /// <summary>OLMo 2.</summary>
    public static FamilyFacts Olmo2 { get; } = new() { ModelType = "olmo2", ClassName = "Olmo2ForCausalLM", NormEpsilon = 1e-5, AttentionBias = false };

    /// <summary>SmolLM 3.</summary>
    public static FamilyFacts SmolLm3 { get; } = new()
    {
        ModelType = "smollm3",
        ClassName = "SmolLM3ForCausalLM",
        KeyValueHeads = 4,
        MaxPositions = 32768,
        RopeTheta = 2e6,
        TiedEmbeddings = true,
        AttentionBias = false,
    };

    /// <summary>All families.</summary>
    // Made when first asked for: the order in which the initializers of several files run is not defined.
    public static IReadOnlyList<FamilyFacts> All => field ??=
    [
        Llama, Mistral, Mixtral, Qwen2, Qwen2Moe, Qwen3, Qwen3Moe, Gemma, Gemma2, Gemma3Text, Phi3, Granite, Olmo2, SmolLm3,
        .. Dense, .. Mixtures, .. LinearAttention, .. StateSpace, .. Latent, .. LateGemmas,
    ];

    /// <summary>The family with a model_type; null if there is none.</summary>
    /// <param name="modelType">The model_type.</param>
    public static FamilyFacts? Find(string? modelType) => All.Concat(TextParts).FirstOrDefault(f => f.ModelType == modelType);

    /// <summary>What is known of a config's model if it is a multimodal one that has a text model inside; null for others.</summary>
    /// <param name="config">The config.json.</param>
    public static MultimodalFacts? FindMultimodal(JsonObject config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Multimodal.FirstOrDefault(m => m.ModelType == config["model_type"]?.ToString());
    }

    /// <summary>The family of a config's model, or of the text model inside a multimodal one; null if it is not known.</summary>
    /// <param name="config">The config.json.</param>
    public static FamilyFacts? FindText(JsonObject config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Find((FindMultimodal(config)?.TextConfig(config) ?? config)["model_type"]?.ToString());
    }

    /// <summary>How a config's model usually lies in its files; null if that is as in the modules, or the family is not known.</summary>
    /// <param name="config">The config.json.</param>
    internal static CheckpointLayout? LayoutOf(JsonObject config)
    {
        var (text, outer) = (FindText(config)?.Layout, FindMultimodal(config)?.Layout);
        return text is null || outer is null ? text ?? outer : text with { Renames = [.. outer.Renames, .. text.Renames] };
    }
}
