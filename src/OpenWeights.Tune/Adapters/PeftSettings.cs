using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Adapters;

/// <summary>Reads values of an adapter_config.json; errors name the file, the key and its value.</summary>
internal sealed class PeftSettings(JsonObject json, string path)
{
    /// <summary>An integer; null if absent.</summary>
    internal int? Int(string key) => json[key] is { } node ? Int(key, node) : null;

    /// <summary>A number; null if absent.</summary>
    internal double? Number(string key) => json[key] is { } node ? Number(key, node) : null;

    /// <summary>A Boolean; false if absent.</summary>
    internal bool Flag(string key) => json[key] switch
    {
        null => false,
        JsonValue value when value.GetValueKind() is JsonValueKind.True or JsonValueKind.False => value.GetValueKind() == JsonValueKind.True,
        var other => throw Wrong(key, "true or false", other),
    };

    /// <summary>A Boolean that has a value of its own if absent.</summary>
    internal bool Flag(string key, bool or) => json[key] is null ? or : Flag(key);

    /// <summary>One of some texts, of which the first stands for an absent one.</summary>
    internal string Choice(string key, params ReadOnlySpan<string> choices) => Text(key) is not { } text ? choices[0]
        : choices.Contains(text) ? text
        : throw Wrong(key, $"one of {string.Join(", ", choices.ToArray())}", json[key]);

    /// <summary>The settings within an object; null if it is absent, empty or false.</summary>
    internal PeftSettings? Section(string key) => json[key] switch
    {
        null or JsonObject { Count: 0 } => null,
        JsonObject section => new PeftSettings(section, Place(key)),
        JsonValue value when value.GetValueKind() == JsonValueKind.False => null,
        var other => throw Wrong(key, "an object", other),
    };

    /// <summary>Where a key is, for messages.</summary>
    internal string Place(string key) => $"{path}: {key}";

    /// <summary>A text; null if absent.</summary>
    internal string? Text(string key) => json[key] is { } node ? Text(key, node) : null;

    /// <summary>Whether the value is a list.</summary>
    internal bool IsList(string key) => json[key] is JsonArray;

    /// <summary>A list of texts, or one text as a list of one; empty if absent.</summary>
    internal IReadOnlyList<string> Texts(string key) => json[key] switch
    {
        null => [],
        JsonArray list => [.. list.Select(item => Text(key, item))],
        var node => Text(key, node) is { Length: > 0 } text ? [text] : [],
    };

    /// <summary>A list of integers, or one integer as a list of one; empty if absent.</summary>
    internal IReadOnlyList<int> Ints(string key) => json[key] switch
    {
        null => [],
        JsonArray list => [.. list.Select(item => Int(key, item))],
        var node => [Int(key, node)],
    };

    /// <summary>An object of values by name; empty if absent.</summary>
    internal IReadOnlyDictionary<string, T> Map<T>(string key, Func<PeftSettings, string, JsonNode?, T> read) => json[key] switch
    {
        null => new Dictionary<string, T>(),
        JsonObject map => map.ToDictionary(static p => p.Key, p => read(this, $"{key}: {p.Key}", p.Value)),
        var other => throw Wrong(key, "an object", other),
    };

    internal int Int(string key, JsonNode? node) =>
        Number(key, node) is var number && number == Math.Floor(number) && Math.Abs(number) <= int.MaxValue ? (int)number : throw Wrong(key, "a whole number", node);

    internal double Number(string key, JsonNode? node) => node is JsonValue value && value.GetValueKind() == JsonValueKind.Number
        ? double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture)
        : throw Wrong(key, "a number", node);

    private string Text(string key, JsonNode? node) =>
        node is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : throw Wrong(key, "a string", node);

    private InvalidDataException Wrong(string key, string wanted, JsonNode? node) => new($"{path}: {key}: {wanted} is expected, not {node?.ToJsonString() ?? "null"}.");
}
