using System.Text.Json.Nodes;
using OpenWeights.Formats.Quantized;

namespace OpenWeights.Tune.Models.Families;

/// <summary>The settings of config.json about packed, quantized weights.</summary>
internal static class QuantizedCheckpoint
{
    /// <summary>Throws if the config says that the checkpoint is quantized in a way that is not read, naming the method.</summary>
    /// <param name="config">Reader of the config.</param>
    /// <param name="json">The config.</param>
    /// <param name="path">Its file.</param>
    /// <exception cref="InvalidDataException">The method, or a variant of it, is not supported; or the settings are invalid.</exception>
    internal static void Check(ConfigReader config, JsonObject json, string path)
    {
        foreach (var key in QuantizedModel.ConfigKeys)
        {
            config.Ignore(key);
        }

        _ = QuantizedModel.Of(json, Path.GetDirectoryName(path) ?? "");
    }
}
