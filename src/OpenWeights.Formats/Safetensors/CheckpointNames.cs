using System.Globalization;

namespace OpenWeights.Formats.Safetensors;

/// <summary>The file names of a checkpoint, as transformers gives them.</summary>
internal static class CheckpointNames
{
    public const string Single = "model.safetensors";
    public const string Index = "model.safetensors.index.json";

    /// <summary>Shard <paramref name="number"/> (from 1) of <paramref name="count"/>.</summary>
    public static string Shard(int number, int count) =>
        string.Create(CultureInfo.InvariantCulture, $"model-{number:00000}-of-{count:00000}.safetensors");
}
