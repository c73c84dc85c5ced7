namespace OpenWeights.Formats.Families;

/// <content>Facts of Gemma 3n and 4.</content>
internal static partial class FamilyTable
{
    /// <summary>Gemma 4's text models.</summary>
    public static FamilyFacts Gemma4Text { get; } = new()
    {
        ModelType = "gemma4_text",
        ClassName = "Gemma4ForCausalLM",
        KeyValueHeads = 4,
        HeadDimension = 256,
        MaxPositions = 131072,
        RopeTheta = 1e6,
        TiedEmbeddings = true,
        AttentionBias = false,
        ActivationSetting = "hidden_activation",
        Activation = "gelu_pytorch_tanh",
        SlidingWindow = 512,
        OverflowsInFloat16 = true,
    };

    /// <summary>Gemma 3n's text models.</summary>
    public static FamilyFacts Gemma3nText { get; } = Gemma4Text with
    {
        ModelType = "gemma3n_text",
        ClassName = "Gemma3nForCausalLM",
        KeyValueHeads = 2,
        MaxPositions = 32768,
        LogitSoftCap = 30,
    };

    private static IReadOnlyList<FamilyFacts> LateGemmas => [Gemma4Text, Gemma3nText];
}
