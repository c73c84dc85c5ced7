using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Formats.Json;

/// <summary>Reads settings from a JSON object; errors name the file and the key.</summary>
internal sealed class ConfigJson
{
    private readonly JsonObject json;
    private readonly string path;

    /// <summary>Creates a reader of an object.</summary>
    /// <param name="json">The object.</param>
    /// <param name="path">The file, for messages.</param>
    public ConfigJson(JsonObject json, string path)
    {
        this.json = json;
        this.path = path;
    }

    /// <summary>Creates an error about a key.</summary>
    /// <param name="key">The key.</param>
    /// <param name="problem">What is wrong.</param>
    public InvalidDataException Error(string key, string problem) => new($"{path}: {key}: {problem}");

    /// <summary>Whether a key is present and not null.</summary>
    /// <param name="key">The key.</param>
    public bool Has(string key) => json[key] is not null;

    /// <summary>A number.</summary>
    /// <param name="key">The key.</param>
    /// <param name="fallback">The value if the key is absent; null if it is required.</param>
    /// <exception cref="InvalidDataException">It is missing or of another type.</exception>
    public double Number(string key, double? fallback = null) => json[key] switch
    {
        null => fallback ?? throw Error(key, "this setting is missing; a number is expected."),
        JsonValue value when value.GetValueKind() == JsonValueKind.Number => double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture),
        var other => throw Error(key, $"a number is expected, not {other.ToJsonString()}."),
    };

    /// <summary>A positive integer.</summary>
    /// <param name="key">The key.</param>
    /// <param name="fallback">The value if the key is absent; null if it is required.</param>
    /// <exception cref="InvalidDataException">It is missing or of another type.</exception>
    public int Int(string key, int? fallback = null)
    {
        var value = Number(key, fallback);
        return value is >= 1 and <= int.MaxValue && value == Math.Floor(value)
            ? (int)value
            : throw Error(key, string.Create(CultureInfo.InvariantCulture, $"a whole number above zero is expected, not {value}."));
    }

    /// <summary>A boolean; false if it is absent.</summary>
    /// <param name="key">The key.</param>
    public bool Flag(string key) => json[key] is JsonValue value && value.GetValueKind() == JsonValueKind.True;

    /// <summary>A string; null if it is absent.</summary>
    /// <param name="key">The key.</param>
    public string? Text(string key) => json[key] is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;

    /// <summary>A list of strings; null if it is absent.</summary>
    /// <param name="key">The key.</param>
    public IReadOnlyList<string>? Texts(string key) => json[key] is JsonArray list ? [.. list.Select(static item => item?.ToString() ?? "")] : null;

    /// <summary>A list of numbers; null if it is absent.</summary>
    /// <param name="key">The key.</param>
    /// <exception cref="InvalidDataException">An item is not a number.</exception>
    public IReadOnlyList<double>? Numbers(string key) => json[key] is JsonArray list ? [.. list.Select(item => new ConfigJson(new JsonObject { [key] = item?.DeepClone() }, path).Number(key))] : null;

    /// <summary>Whether a key is present with the value null.</summary>
    /// <param name="key">The key.</param>
    public bool IsNull(string key) => json.TryGetPropertyValue(key, out var value) && value is null;

    /// <summary>A nested object; null if it is absent.</summary>
    /// <param name="key">The key.</param>
    public ConfigJson? Object(string key) => json[key] is JsonObject inner ? new ConfigJson(inner, path) : null;

    /// <summary>The object as JSON.</summary>
    public override string ToString() => json.ToJsonString();
}
