using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>How many rotated pairs of a head each part of a position has: time, height and width, and a fourth that llama.cpp has beside them.</summary>
internal static class RotarySections
{
    /// <summary>The numbers in a config.json.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="pairs">The number of rotated pairs.</param>
    internal static int[] Of(ConfigJson config, int pairs)
    {
        var given = (config.Object("rope_parameters") ?? config.Object("rope_scaling"))?.Numbers("mrope_section");

        // Without them, as many as there are of a text's positions.
        return given is { Count: 3 } ? [.. given.Select(static n => (int)n), 0] : [pairs - (2 * (pairs / 3)), pairs / 3, pairs / 3, 0];
    }
}
