using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>EXAONE 4 (LG AI Research, 2025): norms of outputs, and of queries and keys. If there are sliding windows, layers without one have no rotary embedding.</summary>
internal sealed class Exaone4Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Exaone4;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with { NormPlacement = NormPlacement.After, QueryKeyNorm = QueryKeyNorm.PerHead };
        var slides = LayerTypes.Read(config, decoder.LayerCount, Pattern(config));
        return config.OptionalInt("sliding_window", Facts.SlidingWindow) is { } window ? decoder.WithWindows(window, slides).WithRotation(i => slides[i]) : decoder;
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("sliding_window", 4096), ("sliding_window_pattern", 4));

    // A number n for every n-th layer without a window, or a pattern such as LLLG, with G for those.
    private static Func<int, bool> Pattern(ConfigReader config)
    {
        const string name = "sliding_window_pattern";
        if (config.IsText(name))
        {
            var pattern = config.Text(name)!;
            config.Require(name, pattern.Length > 0 && pattern.All(static c => c is 'L' or 'G'), "a number, or a text of the letters L and G, is expected.");
            return i => pattern[i % pattern.Length] == 'L';
        }

        var count = (int)config.Number(name, 4);
        return i => count > 0 && (i + 1) % count != 0;
    }
}
