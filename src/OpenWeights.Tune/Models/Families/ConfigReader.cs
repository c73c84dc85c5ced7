using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Reads settings of a config.json; error messages name the setting, its value and what is expected.</summary>
internal sealed class ConfigReader
{
    private const int MostLayers = 10_000;

    private readonly JsonObject _json;
    private readonly string _path;
    private readonly HashSet<string> _read = [];

    /// <summary>Creates a reader of one config.json.</summary>
    /// <param name="json">The JSON object.</param>
    /// <param name="path">Path of the file, for messages.</param>
    public ConfigReader(JsonObject json, string path)
    {
        _json = json;
        _path = path;
    }

    /// <summary>Settings inside the rotary settings that the family reads itself.</summary>
    internal HashSet<string> RopeSettings { get; } = [];

    /// <summary>An error about a setting.</summary>
    public InvalidDataException Error(string key, string problem) => new($"{_path}: {key}: {problem}");

    /// <summary>Whether the setting is present and not null.</summary>
    public bool Has(string key) => Node(key) is not null;

    /// <summary>Whether the setting is present, even if null.</summary>
    public bool Mentions(string key) => _json.ContainsKey(key);

    /// <summary>Whether the setting is a given text.</summary>
    internal bool IsText(string key, string text) => Node(key) is JsonValue value && value.GetValueKind() == JsonValueKind.String && value.GetValue<string>() == text;

    /// <summary>A positive integer; required unless there is a fallback.</summary>
    public int Int(string key, int? fallback = null)
    {
        var value = Number(key, fallback);
        return value >= 1 && value <= int.MaxValue && value == Math.Floor(value)
            ? (int)value
            : throw Error(key, FormattableString.Invariant($"a whole number above zero is expected, not {value}."));
    }

    /// <summary>The number of layers. It decides how many objects are made before a tensor is looked at, so it has a largest value.</summary>
    public int Layers(int? fallback = null) =>
        Int("num_hidden_layers", fallback) is <= MostLayers and var layers ? layers : throw Error("num_hidden_layers", $"no model has more than {MostLayers} layers.");

    /// <summary>A positive integer, or null if the setting is null; the fallback if it is absent.</summary>
    public int? OptionalInt(string key, int? fallback = null) => Has(key) ? Int(key) : Mentions(key) ? null : fallback;

    /// <summary>A number; required unless there is a fallback.</summary>
    public double Number(string key, double? fallback = null) => Number(Node(key), key, fallback);

    /// <summary>A positive number, or null if the setting is null; the fallback if it is absent.</summary>
    public double? OptionalNumber(string key, double? fallback = null)
    {
        var value = Has(key) ? Number(key) : Mentions(key) ? null : fallback;
        return value is null or > 0 ? value : throw Error(key, FormattableString.Invariant($"a number above zero is expected, not {value}."));
    }

    /// <summary>Whether the setting is a text.</summary>
    internal bool IsText(string key) => Node(key) is JsonValue value && value.GetValueKind() == JsonValueKind.String;

    /// <summary>Throws if a setting is present and not the one text that is supported.</summary>
    internal void RequireText(string key, string only) => Require(key, Text(key) is not { } given || given == only, $"'{Text(key)}' is not supported; supported is {only}.");

    /// <summary>Whether a setting is a list.</summary>
    public bool IsList(string key) => Node(key) is JsonArray;

    /// <summary>A list of integers, or null.</summary>
    public IReadOnlyList<int>? Ints(string key) => List(key)?.Select(n => (int)Number(n, key, null)).ToList();

    /// <summary>A list of positive integers; a single one is a list of one.</summary>
    public IReadOnlyList<int> IntsOrOne(string key, int fallback) => Node(key) is JsonArray ? Ints(key)! : [Int(key, fallback)];

    /// <summary>A list of numbers, or null.</summary>
    public IReadOnlyList<double>? Numbers(string key) => List(key)?.Select(n => Number(n, key, null)).ToList();

    /// <summary>A list of texts, or null.</summary>
    public IReadOnlyList<string>? Texts(string key) => List(key)?.Select(n => n?.ToString() ?? throw Error(key, "a list of strings is expected; one of them is null.")).ToList();

    /// <summary>A Boolean.</summary>
    public bool Flag(string key, bool fallback = false) => Node(key) switch
    {
        null => fallback,
        JsonValue value when value.GetValueKind() is JsonValueKind.True or JsonValueKind.False => value.GetValue<bool>(),
        var other => throw Error(key, $"true or false is expected, not {other.ToJsonString()}."),
    };

    /// <summary>A text.</summary>
    public string? Text(string key) => Node(key) switch
    {
        null => null,
        JsonValue value when value.GetValueKind() == JsonValueKind.String => value.GetValue<string>(),
        var other => throw Error(key, $"a string is expected, not {other.ToJsonString()}."),
    };

    /// <summary>Throws if a setting has a value that changes the computation and is not supported.</summary>
    public void Require(string key, bool holds, string problem)
    {
        if (!holds)
        {
            throw Error(key, problem);
        }
    }

    /// <summary>An object, or null.</summary>
    public JsonObject? Object(string key) => Node(key) switch
    {
        null => null,
        JsonObject value => value,
        var other => throw Error(key, $"an object or null is expected, not {other.ToJsonString()}."),
    };

    /// <summary>Throws if there are settings that were not read and are not known to be irrelevant for the computation.</summary>
    /// <exception cref="InvalidDataException">There are such settings; the message names all of them.</exception>
    public void RefuseUnread() => RefuseUnread(static _ => false);

    /// <summary>As <see cref="RefuseUnread()"/>, except for some settings.</summary>
    /// <param name="isElsewhere">Whether a setting matters elsewhere.</param>
    /// <exception cref="InvalidDataException">There are such settings; the message names all of them.</exception>
    internal void RefuseUnread(Func<string, bool> isElsewhere)
    {
        var unread = _json.Where(p => !_read.Contains(p.Key) && !isElsewhere(p.Key) && !IgnoredSettings.Contains(p.Key, p.Value)).Select(static p => $"{p.Key} ({p.Value!.ToJsonString()})").ToList();
        if (unread.Count > 0)
        {
            throw new InvalidDataException(
                $"{_path}: {string.Join(", ", unread)}: unknown for this family, and might change what the model computes, so the model is refused.");
        }
    }

    /// <summary>Marks settings as read that never change what the family's models compute, such as those of their training.</summary>
    internal void Ignore(params ReadOnlySpan<string> keys)
    {
        foreach (var key in keys)
        {
            _ = _read.Add(key);
        }
    }

    /// <summary>A number inside an object of the config.</summary>
    internal double Number(JsonNode? node, string key, double? fallback) => node switch
    {
        null => fallback ?? throw Error(key, "this setting is missing; a number is expected."),
        // Parsed from the text: a number from a file holds a double, one set in code may hold any type.
        JsonValue value when value.GetValueKind() == JsonValueKind.Number => double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture),
        // As transformers 5 writes the numbers that JSON does not have.
        JsonObject map when map["__float__"]?.ToString() is "Infinity" or "-Infinity" => map["__float__"]!.ToString() == "Infinity" ? double.PositiveInfinity : double.NegativeInfinity,
        var other => throw Error(key, $"a number is expected, not {other.ToJsonString()}."),
    };

    private JsonArray? List(string key) => Node(key) switch
    {
        null => null,
        JsonArray list => list,
        var other => throw Error(key, $"a list or null is expected, not {other.ToJsonString()}."),
    };

    private JsonNode? Node(string key)
    {
        _ = _read.Add(key);
        return _json[key];
    }
}
