using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Gemma 2 (Gemma Team, 2024): Gemma with pre- and post-norms, soft caps of scores and logits, and a sliding window in every other layer.
/// </summary>
public sealed class Gemma2Family : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new()
    {
        KeyValueHeads = 4,
        HeadDimension = 256,
        MaxPositions = 8192,
        TiedEmbeddings = true,
        AttentionBias = false,
        ActivationSetting = "hidden_activation",
        Activation = "gelu_pytorch_tanh",
    };

    /// <inheritdoc/>
    public bool OverflowsInFloat16 => true;

    /// <inheritdoc/>
    public string ModelType => "gemma2";

    /// <inheritdoc/>
    public string Architecture => "Gemma2ForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(ModelType, s_defaults).AsGemma(config).WithGemmaScores(config, scoreCap: 50, logitCap: 30);
        return decoder.WithWindows(config.OptionalInt("sliding_window", 4096), LayerTypes.Read(config, decoder.LayerCount, static i => i % 2 == 0));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return GemmaSettings.NewConfig(
            this, shape, ("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0), ("query_pre_attn_scalar", shape.HiddenSize / shape.Heads), ("sliding_window", 4096));
    }
}
