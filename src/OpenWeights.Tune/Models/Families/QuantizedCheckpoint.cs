using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>What a config.json says of weights that are stored packed.</summary>
internal static class QuantizedCheckpoint
{
    private static readonly string[] s_settings = ["quantization_config", "compression_config", "quantization"];

    /// <summary>Refuses a checkpoint whose config says that it is quantised, by the name of the method.</summary>
    internal static void Refuse(ConfigReader config)
    {
        foreach (var key in s_settings)
        {
            config.Require(key, !config.Has(key), $"the checkpoint says that it is quantised{Method(config.Object(key))}, which this version does not read; take the model that it was made of, with quantization: {{ type: nf4 }} where memory is short.");
        }
    }

    private static string Method(JsonObject? settings)
    {
        var method = settings?["quant_method"]?.ToString() ?? (settings?.Any(static p => p.Key.StartsWith("load_in_", StringComparison.Ordinal) || p.Key.StartsWith("bnb_", StringComparison.Ordinal)) == true ? "bitsandbytes" : null);
        return method is null ? "" : $" by {method}";
    }
}
