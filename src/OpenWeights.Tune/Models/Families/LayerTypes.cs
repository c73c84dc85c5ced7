namespace OpenWeights.Tune.Models.Families;

/// <summary>layer_types and what stands for it in older configs: which layers look how far back.</summary>
internal static class LayerTypes
{
    internal const string Full = "full_attention";

    internal const string Sliding = "sliding_attention";

    /// <summary>For each layer whether it has a sliding window.</summary>
    /// <param name="config">The config.</param>
    /// <param name="layers">The number of layers.</param>
    /// <param name="slides">Which layers do where the config has no layer_types.</param>
    internal static bool[] Read(ConfigReader config, int layers, Func<int, bool> slides)
    {
        if (config.Texts("layer_types") is not { } types)
        {
            return [.. Enumerable.Range(0, layers).Select(slides)];
        }

        config.Require("layer_types", types.Count == layers, $"it lists {types.Count} layers; num_hidden_layers is {layers}.");
        var unknown = types.FirstOrDefault(static t => t is not (Full or Sliding));
        config.Require("layer_types", unknown is null, $"'{unknown}' is not known; known are {Full} and {Sliding}.");
        return [.. types.Select(static t => t == Sliding)];
    }

    /// <summary>sliding_window where use_sliding_window is set; else null, whatever the size says: transformers 5 writes 0.</summary>
    /// <param name="config">The config.</param>
    /// <param name="window">The size where the config has none; null for no window.</param>
    internal static int? WindowWhereUsed(this ConfigReader config, int? window)
    {
        if (config.Flag("use_sliding_window"))
        {
            return config.OptionalInt("sliding_window", window);
        }

        _ = config.Has("sliding_window");
        return null;
    }

    /// <summary>Gives a decoder's layers their windows.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="window">The window; null for none.</param>
    /// <param name="slides">For each layer whether it has the window.</param>
    internal static DecoderConfig WithWindows(this DecoderConfig decoder, int? window, bool[] slides) => window is null ? decoder : decoder with
    {
        Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => decoder.Layer(i) with { SlidingWindow = slides[i] ? window : null })],
    };
}
