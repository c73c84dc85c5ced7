using System.Text.Json.Nodes;

namespace OpenWeights.Formats.Quantized;

/// <summary>How a model's weights are quantised, by its configs; the weights are not read.</summary>
/// <param name="Description">What it is, such as "gptq: 4 bits, groups of 128".</param>
/// <param name="BitsPerWeight">Bits of a quantised weight with its share of the scales, about.</param>
public sealed record QuantizedModel(string Description, double BitsPerWeight)
{
    /// <summary>The files beside config.json that say how weights are quantised; they do not belong to a copy in full.</summary>
    public static IReadOnlyList<string> FileNames => [QuantizationConfig.ModelOptName, QuantizationConfig.QuantizeName];

    /// <summary>The keys of config.json that say so.</summary>
    public static IReadOnlyList<string> ConfigKeys => QuantizationConfig.ConfigKeys;

    /// <summary>Reads the configs; null for a model whose weights are stored in full.</summary>
    /// <param name="config">Its config.json.</param>
    /// <param name="folder">Its folder.</param>
    /// <exception cref="InvalidDataException">The method, or a variant of it, is not supported; or the settings are invalid.</exception>
    public static QuantizedModel? Of(JsonObject config, string folder)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(folder);
        return QuantizedFormats.Of(QuantizationConfig.Of(config, folder)) is { } format ? new QuantizedModel(format.Description, format.BitsPerWeight) : null;
    }
}
