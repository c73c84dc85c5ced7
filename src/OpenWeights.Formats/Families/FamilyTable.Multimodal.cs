namespace OpenWeights.Formats.Families;

/// <content>Multimodal models, of which the text model is read.</content>
internal static partial class FamilyTable
{
    // In the order of the versions: the text model was a whole model inside, or the whole model had the names of a text model. Some have
    // a part of the vision model beside the text model's layers.
    private static readonly CheckpointLayout s_olderNames = new(
        [
            new(@"^language_model\.model\.", "model.language_model."), new(@"^language_model\.lm_head\.", "lm_head."),
            new(@"^model\.(embed_tokens|layers|norm)\.", "model.language_model.$1."),
        ],
        []);

    /// <summary>The text models of Qwen 2.5 VL.</summary>
    public static FamilyFacts Qwen25VisionText { get; } = new()
    {
        ModelType = "qwen2_5_vl_text",
        ClassName = "Qwen2_5_VLForConditionalGeneration",
        KeyValueHeads = 8,
        MaxPositions = 32768,
        NormEpsilon = 1e-5,
        RopeTheta = 1e6,
        SlidingWindow = 4096,
    };

    /// <summary>The text models of Qwen 3 VL.</summary>
    public static FamilyFacts Qwen3VisionText { get; } = new()
    {
        ModelType = "qwen3_vl_text",
        ClassName = "Qwen3VLForConditionalGeneration",
        KeyValueHeads = 32,
        HeadDimension = 128,
        MaxPositions = 128000,
        RopeTheta = 5e5,
        AttentionBias = false,
    };

    /// <summary>Text models that exist only inside multimodal ones.</summary>
    public static IReadOnlyList<FamilyFacts> TextParts { get; } = [Qwen25VisionText, Qwen3VisionText];

    /// <summary>Multimodal models.</summary>
    public static IReadOnlyList<MultimodalFacts> Multimodal { get; } =
    [
        new()
        {
            ModelType = "gemma3",
            TextType = "gemma3_text",
            ClassifierName = "Gemma3ForSequenceClassification",
            TiedEmbeddings = true,
            Layout = s_olderNames,

            // Google's configs leave out what the class has as defaults.
            TextDefaults = new Dictionary<string, int> { ["vocab_size"] = 262208, ["hidden_size"] = 2304, ["intermediate_size"] = 9216, ["num_hidden_layers"] = 26, ["num_attention_heads"] = 8 },
        },
        new() { ModelType = "gemma3n", TextType = "gemma3n_text", TiedEmbeddings = true, Layout = s_olderNames },
        new() { ModelType = "gemma4", TextType = "gemma4_text", TiedEmbeddings = true, Layout = s_olderNames },
        new() { ModelType = "mistral3", TextType = "mistral", TiedEmbeddings = true, Layout = s_olderNames },
        new() { ModelType = "qwen2_5_vl", TextType = "qwen2_5_vl_text", Layout = s_olderNames },
        new() { ModelType = "qwen3_vl", TextType = "qwen3_vl_text", Layout = s_olderNames },
        new() { ModelType = "qwen3_5", TextType = "qwen3_5_text", ClassifierName = "Qwen3_5ForSequenceClassification", Layout = s_olderNames },
        new() { ModelType = "qwen3_5_moe", TextType = "qwen3_5_moe_text", Layout = s_olderNames },
        new() { ModelType = "llama4", TextType = "llama4_text", Stack = "language_model.model", Head = "language_model.lm_head" },
    ];
}
