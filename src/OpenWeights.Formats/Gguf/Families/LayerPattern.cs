namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Which layers of a GGUF file have a sliding window: a list of all, or a period of which the last has none.</summary>
internal static class LayerPattern
{
    /// <summary>Reads the pattern.</summary>
    /// <param name="metadata">The file's keys.</param>
    /// <param name="key">The pattern's key.</param>
    /// <param name="layers">The number of layers.</param>
    /// <param name="usualPeriod">The period if the file has no such key.</param>
    internal static bool[] Read(GgufMetadata metadata, string key, int layers, int usualPeriod)
    {
        bool[]? list = metadata.Find(key) switch
        {
            bool[] flags => flags,
            int[] numbers => Array.ConvertAll(numbers, static n => n != 0),
            uint[] numbers => Array.ConvertAll(numbers, static n => n != 0),
            _ => null,
        };
        if (list is not null)
        {
            return list.Length >= layers ? list[..layers] : throw metadata.Error(key, $"it lists {list.Length} layers, but the model has {layers}.");
        }

        var period = metadata.Int(key) ?? usualPeriod;
        return [.. Enumerable.Range(0, layers).Select(i => period == 0 || i % period < period - 1)];
    }
}
