using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of prompt tuning, with PEFT's names.</summary>
[AdapterType("prompt_tuning")]
internal sealed record PromptTuningConfig : PromptConfig
{
    /// <summary>prompt_tuning_init: how the embeddings start.</summary>
    [Setting("Start of the embeddings: RANDOM (normal), SAMPLE_VOCAB (of random tokens) or TEXT (of prompt_tuning_init_text).", OneOf = ["RANDOM", "SAMPLE_VOCAB", "TEXT"])]
    public string PromptTuningInit { get; init; } = "RANDOM";

    /// <summary>prompt_tuning_init_text: the text whose embeddings are the start.</summary>
    [Setting("With prompt_tuning_init: TEXT, the text whose embeddings are the start, cut or repeated to num_virtual_tokens.")]
    public string? PromptTuningInitText { get; init; }

    /// <summary>The tokens of <see cref="PromptTuningInitText"/>.</summary>
    public IReadOnlyList<long> InitTokens { get; init; } = [];
}

/// <summary>Prompt tuning (Lester et al., 2021): the embeddings of virtual tokens are trained.</summary>
internal sealed class PromptTuningKind : PromptKind<PromptTuningConfig>
{
    internal override string PeftType => "PROMPT_TUNING";

    private protected override IReadOnlyCollection<string> Harmless => ["tokenizer_name_or_path", "tokenizer_kwargs"];

    internal override bool NeedsBaseValues(AdapterConfig config) => false;

    private protected override (string Setting, string Message)? Problem(CausalLanguageModel model, PromptTuningConfig config) =>
        config is { PromptTuningInit: "TEXT", PromptTuningInitText: null or "" } ? ("prompt_tuning_init_text", "prompt_tuning_init: TEXT needs a text; set it, or choose another start.") : null;

    private protected override PromptPart Part(PromptTuningConfig config, AdapterTensors tensors) =>
        new EmbeddingPrompt(tensors.Model, new Parameter(tensors.Take(FileName, Start(config, tensors.Model), config.NumVirtualTokens, tensors.Model.Config.HiddenSize)), encoder: null);

    private static Fill Start(PromptTuningConfig config, CausalLanguageModel model) => config.PromptTuningInit switch
    {
        "RANDOM" => Fills.Normal(1),
        "TEXT" when config.InitTokens.Count > 0 => (_, _) => Rows(model, [.. Enumerable.Range(0, config.NumVirtualTokens).Select(i => config.InitTokens[i % config.InitTokens.Count])]),
        "TEXT" => throw new InvalidOperationException("PromptTuningConfig.InitTokens has no tokens of the text"),
        _ => (_, random) => Rows(model, randint(0L, model.Config.VocabularySize, [(long)config.NumVirtualTokens], generator: random)),
    };

    private static Tensor Rows(CausalLanguageModel model, long[] tokens) => Rows(model, tensor(tokens, [tokens.Length]));

    private static Tensor Rows(CausalLanguageModel model, Tensor tokens)
    {
        model.Stack.LayerWeights?.Show(model.Config.Names.EmbeddingWeight);
        return model.Stack.Embedding.Rows(tokens.to(model.Stack.Embedding.Device)).Widened();
    }
}
