using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Quantized;

/// <summary>What a checkpoint says of its quantisation: the quantization_config of config.json, or a file beside it of older programs.</summary>
internal sealed class QuantizationConfig
{
    /// <summary>The file of older versions of ModelOpt.</summary>
    public const string ModelOptName = "hf_quant_config.json";

    /// <summary>The file of older versions of AutoGPTQ and AutoAWQ.</summary>
    public const string QuantizeName = "quantize_config.json";

    private static readonly string[] Keys = ["quantization_config", "compression_config", "quantization"];

    private QuantizationConfig(string place, JsonObject settings, string method) => (Place, Settings, Method) = (place, settings, method);

    /// <summary>File and key, for messages.</summary>
    public string Place { get; }

    /// <summary>The settings.</summary>
    public JsonObject Settings { get; }

    /// <summary>quant_method, or what stands for it.</summary>
    public string Method { get; }

    /// <summary>The keys of config.json that say that a checkpoint is quantised.</summary>
    public static IReadOnlyList<string> ConfigKeys => Keys;

    /// <summary>Reads the settings of a model folder; null for a checkpoint that is not quantised.</summary>
    /// <param name="config">Its config.json.</param>
    /// <param name="folder">The folder.</param>
    /// <exception cref="InvalidDataException">A file is no JSON object, or the settings name no method.</exception>
    public static QuantizationConfig? Of(JsonObject config, string folder)
    {
        var path = Path.Combine(folder, HuggingFace.ModelFolder.ConfigName);
        JsonObject[] places = [config, .. config.Select(static pair => pair.Value).OfType<JsonObject>().Where(static inner => inner.ContainsKey("model_type"))];
        foreach (var key in Keys)
        {
            if (places.Select(place => place[key]).OfType<JsonObject>().FirstOrDefault() is { } settings)
            {
                return new QuantizationConfig($"{path}: {key}", settings, MethodOf(settings, key, path));
            }
        }

        return Beside(folder, ModelOptName, "quantization", "modelopt") ?? Beside(folder, QuantizeName, null, "gptq");
    }

    /// <summary>A whole number of the settings; null where it is absent or null.</summary>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public int? Number(string key) => Settings[key] switch
    {
        null => null,
        JsonValue value when value.TryGetValue<int>(out var number) => number,
        var other => throw Wrong(key, other, "a whole number"),
    };

    /// <summary>A switch of the settings; null where it is absent or null.</summary>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public bool? Switch(string key) => Settings[key] switch
    {
        null => null,
        JsonValue value when value.TryGetValue<bool>(out var isOn) => isOn,
        var other => throw Wrong(key, other, "true or false"),
    };

    /// <summary>A text of the settings; null where it is absent or null.</summary>
    public string? Text(string key) => Settings[key]?.ToString();

    /// <summary>The refusal of a kind of quantisation that is not read.</summary>
    /// <param name="what">What is not read, for the message.</param>
    public InvalidDataException Unsupported(string what) =>
        new($"{Place}: {what} is not supported; use the original model (with quantization: {{ type: nf4 }} to save memory), or a copy of it in {QuantizedFormats.Names}.");

    private InvalidDataException Wrong(string key, JsonNode value, string what) => new($"{Place}: {key} is {value.ToJsonString()}, which is not {what}; correct it");

    private static QuantizationConfig? Beside(string folder, string name, string? key, string method)
    {
        var path = Path.Combine(folder, name);
        if (!File.Exists(path))
        {
            return null;
        }

        var whole = JsonFile.ReadObject(path);
        var settings = key is null ? whole : whole[key] as JsonObject;
        return settings is null ? null : new QuantizationConfig(path, settings, settings["quant_method"]?.ToString() ?? method);
    }

    // MLX writes its settings under "quantization", with neither a method nor a version.
    private static string MethodOf(JsonObject settings, string key, string path) =>
        settings["quant_method"]?.ToString()
        ?? (settings.Any(static pair => pair.Key.Contains("load_in_", StringComparison.Ordinal) || pair.Key.StartsWith("bnb_", StringComparison.Ordinal)) ? "bitsandbytes"
        : settings.ContainsKey("config_groups") ? "compressed-tensors"
        : settings.ContainsKey("quant_algo") ? "modelopt"
        : settings.ContainsKey("group_size") && key == "quantization" ? "mlx"
        : throw new InvalidDataException($"{path}: {key} has no quant_method, so how the weights are packed is not known; add it, or use the original model."));
}
