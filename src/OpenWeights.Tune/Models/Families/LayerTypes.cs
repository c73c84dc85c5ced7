namespace OpenWeights.Tune.Models.Families;

/// <summary>Reads layer_types and its older equivalents: which layers have a sliding window.</summary>
internal static class LayerTypes
{
    internal const string Full = "full_attention";

    internal const string Sliding = "sliding_attention";

    internal const string Linear = "linear_attention";

    internal const string Convolution = "conv";

    /// <summary>Whether each layer has a sliding window.</summary>
    /// <param name="config">The config.</param>
    /// <param name="layers">Number of layers.</param>
    /// <param name="slides">Which layers have one if the config has no layer_types.</param>
    internal static bool[] Read(ConfigReader config, int layers, Func<int, bool> slides)
    {
        return [.. Read(config, layers, i => slides(i) ? Sliding : Full, Full, Sliding).Select(static t => t == Sliding)];
    }

    /// <summary>The type of each layer.</summary>
    /// <param name="config">The config.</param>
    /// <param name="layers">Number of layers.</param>
    /// <param name="usual">The type of a layer if the config has no layer_types.</param>
    /// <param name="supported">The types that the family has.</param>
    internal static IReadOnlyList<string> Read(ConfigReader config, int layers, Func<int, string> usual, params IReadOnlyList<string> supported)
    {
        if (config.Texts("layer_types") is not { } types)
        {
            return [.. Enumerable.Range(0, layers).Select(usual)];
        }

        config.Require("layer_types", types.Count == layers, $"it lists {types.Count} layers; num_hidden_layers is {layers}.");
        var unknown = types.FirstOrDefault(t => !supported.Contains(t));
        config.Require("layer_types", unknown is null, $"'{unknown}' is not supported; supported are {string.Join(", ", supported.SkipLast(1))} and {supported[^1]}.");
        return types;
    }

    /// <summary>The sliding_window if use_sliding_window is set; otherwise null, whatever the size: transformers 5 writes 0.</summary>
    /// <param name="config">The config.</param>
    /// <param name="window">Size if the config has none; null for no window.</param>
    internal static int? WindowWhereUsed(this ConfigReader config, int? window)
    {
        if (config.Flag("use_sliding_window"))
        {
            return config.OptionalInt("sliding_window", window);
        }

        _ = config.Has("sliding_window");
        return null;
    }

    /// <summary>Sets the windows of a decoder's layers.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="window">The window; null for none.</param>
    /// <param name="slides">Whether each layer has the window.</param>
    internal static DecoderConfig WithWindows(this DecoderConfig decoder, int? window, bool[] slides) => window is null ? decoder : decoder with
    {
        Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => decoder.Layer(i) with { SlidingWindow = slides[i] ? window : null })],
    };
}
