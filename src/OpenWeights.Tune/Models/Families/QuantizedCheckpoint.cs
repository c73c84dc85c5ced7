using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Detects checkpoints with packed, quantized weights by their config.json.</summary>
internal static class QuantizedCheckpoint
{
    private static readonly string[] s_settings = ["quantization_config", "compression_config", "quantization"];

    /// <summary>Throws if the config says that the checkpoint is quantized, naming the method.</summary>
    internal static void Refuse(ConfigReader config)
    {
        foreach (var key in s_settings)
        {
            config.Require(key, !config.Has(key), $"the checkpoint is quantized{Method(config.Object(key))}, which is not supported; use the original model, with quantization: {{ type: nf4 }} to save memory.");
        }
    }

    private static string Method(JsonObject? settings)
    {
        var method = settings?["quant_method"]?.ToString() ?? (settings?.Any(static p => p.Key.StartsWith("load_in_", StringComparison.Ordinal) || p.Key.StartsWith("bnb_", StringComparison.Ordinal)) == true ? "bitsandbytes" : null);
        return method is null ? "" : $" by {method}";
    }
}
