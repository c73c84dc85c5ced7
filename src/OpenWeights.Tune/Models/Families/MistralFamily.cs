using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Mistral (Jiang et al., 2023): Llama without biases, and in its first version with a sliding window in all layers.</summary>
internal sealed class MistralFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Mistral;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts);
        return decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), LayerTypes.Read(config, decoder.LayerCount, static _ => true));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("sliding_window", null));
}
