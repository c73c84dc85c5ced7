using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Gemma 1 (Gemma Team, 2024): GeGLU, norms with a scale of one plus their weight, scaled embeddings.</summary>
public sealed class GemmaFamily : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new()
    {
        KeyValueHeads = 16,
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
    public string ModelType => "gemma";

    /// <inheritdoc/>
    public string Architecture => "GemmaForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(ModelType, s_defaults).AsGemma(config);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => GemmaSettings.NewConfig(this, shape);
}
