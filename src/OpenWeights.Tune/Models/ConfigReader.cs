using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Models.Rope;

namespace OpenWeights.Tune.Models;

/// <summary>Reads settings out of a config.json and says of a wrong one which it is, what it holds and what is wanted.</summary>
public sealed class ConfigReader
{
    private readonly JsonObject _json;
    private readonly string _path;

    /// <summary>A reader of one config.json.</summary>
    /// <param name="json">The file's object.</param>
    /// <param name="path">The file's path, for messages.</param>
    public ConfigReader(JsonObject json, string path)
    {
        _json = json;
        _path = path;
    }

    /// <summary>An error about one setting.</summary>
    public InvalidDataException Error(string key, string problem) => new($"{_path}: {key}: {problem}");

    /// <summary>Whether the setting is there and not null.</summary>
    public bool Has(string key) => _json[key] is not null;

    /// <summary>A whole number above zero that must be there, unless there is a fallback.</summary>
    public int Int(string key, int? fallback = null)
    {
        var value = Number(key, fallback);
        return value >= 1 && value <= int.MaxValue && value == Math.Floor(value)
            ? (int)value
            : throw Error(key, FormattableString.Invariant($"a whole number above zero is wanted, not {value}."));
    }

    /// <summary>A number that must be there, unless there is a fallback.</summary>
    public double Number(string key, double? fallback = null) => Number(_json, key, fallback);

    /// <summary>true or false.</summary>
    public bool Flag(string key, bool fallback = false) => _json[key] switch
    {
        null => fallback,
        JsonValue value when value.GetValueKind() is JsonValueKind.True or JsonValueKind.False => value.GetValue<bool>(),
        var other => throw Error(key, $"true or false is wanted, not {other.ToJsonString()}."),
    };

    /// <summary>A text.</summary>
    public string? Text(string key) => _json[key] switch
    {
        null => null,
        JsonValue value when value.GetValueKind() == JsonValueKind.String => value.GetValue<string>(),
        var other => throw Error(key, $"a text is wanted, not {other.ToJsonString()}."),
    };

    /// <summary>Refuses an option that would change the maths and is not implemented.</summary>
    public void Require(string key, bool holds, string problem)
    {
        if (!holds)
        {
            throw Error(key, problem);
        }
    }

    /// <summary>rope_theta with rope_scaling, or transformers 5's rope_parameters.</summary>
    public RopeConfig Rope(int maxPositions)
    {
        var key = Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
        var theta = Number("rope_theta", 10000);
        if (_json[key] is not { } node)
        {
            return new RopeConfig { Theta = theta, OriginalMaxPositions = maxPositions };
        }

        if (node is not JsonObject scaling)
        {
            throw Error(key, $"an object or null is wanted, not {node.ToJsonString()}.");
        }

        var type = (scaling["rope_type"] ?? scaling["type"])?.ToString() ?? "default";
        var kind = type switch
        {
            "default" => RopeKind.Default,
            "linear" => RopeKind.Linear,
            "dynamic" => RopeKind.Dynamic,
            "llama3" => RopeKind.Llama3,
            "yarn" => RopeKind.Yarn,
            _ => throw Error(key, $"rope type '{type}' is not known; known are default, linear, dynamic, llama3 and yarn."),
        };
        return new RopeConfig
        {
            Kind = kind,
            Theta = Number(scaling, "rope_theta", theta),
            Factor = kind == RopeKind.Default ? 1 : Number(scaling, "factor", null),
            OriginalMaxPositions = kind == RopeKind.Dynamic ? maxPositions : Number(scaling, "original_max_position_embeddings", maxPositions),
            LowFrequencyFactor = Number(scaling, "low_freq_factor", 1),
            HighFrequencyFactor = Number(scaling, "high_freq_factor", 4),
            BetaFast = Number(scaling, "beta_fast", 32),
            BetaSlow = Number(scaling, "beta_slow", 1),
            AttentionFactor = scaling["attention_factor"] is null ? null : Number(scaling, "attention_factor", null),
        };
    }

    private double Number(JsonObject json, string key, double? fallback) => json[key] switch
    {
        null => fallback ?? throw Error(key, "this setting is missing; a number is wanted."),
        // By its text: a number that was read holds a double, one that a program made may hold anything.
        JsonValue value when value.GetValueKind() == JsonValueKind.Number => double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture),
        var other => throw Error(key, $"a number is wanted, not {other.ToJsonString()}."),
    };
}
