using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Mistral (Jiang et al., 2023): Llama without biases, and in its first version with a sliding window in all layers.</summary>
public sealed class MistralFamily : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new() { KeyValueHeads = 8, MaxPositions = 4096 * 32 };

    /// <inheritdoc/>
    public string ModelType => "mistral";

    /// <inheritdoc/>
    public string Architecture => "MistralForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(ModelType, s_defaults);
        return decoder.WithWindows(config.OptionalInt("sliding_window", 4096), LayerTypes.Read(config, decoder.LayerCount, static _ => true));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("sliding_window", null));
}
