using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Reads rope_theta with rope_scaling, or transformers 5's rope_parameters.</summary>
internal static class RopeReader
{
    private static readonly Dictionary<string, RopeKind> s_kinds = new()
    {
        ["default"] = RopeKind.Default,

        // Positions of text are the same in every section.
        ["mrope"] = RopeKind.Default,
        ["linear"] = RopeKind.Linear,
        ["dynamic"] = RopeKind.Dynamic,
        ["llama3"] = RopeKind.Llama3,
        ["yarn"] = RopeKind.Yarn,
        ["proportional"] = RopeKind.Proportional,
        ["longrope"] = RopeKind.LongRope,
        ["su"] = RopeKind.LongRope,
    };

    private static readonly HashSet<string> s_known =
    [
        "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow",
        "attention_factor", "mscale", "mscale_all_dim", "truncate", "short_factor", "long_factor", "partial_rotary_factor", "finetuned",

        // How dimensions are divided among the axes of images: the positions of text are the same on each.
        "mrope_section", "mrope_interleaved",
    ];

    /// <summary>The rotary settings of a config.</summary>
    /// <param name="config">The config.</param>
    /// <param name="maxPositions">Its max_position_embeddings.</param>
    /// <param name="headDimension">Head dimension.</param>
    /// <param name="theta">The family's rope_theta if the config has none.</param>
    /// <param name="partial">Whether the family supports partial rotary embedding.</param>
    /// <param name="layerType">The layer type to read, if rope_parameters has settings per layer type.</param>
    /// <param name="originalMaxPositions">The family's original_max_position_embeddings if the config has none.</param>
    /// <param name="rotatedShare">The family's partial_rotary_factor if the config has none.</param>
    internal static RopeConfig Rope(
        this ConfigReader config, int maxPositions, int headDimension, double theta = 10000, bool partial = false, string? layerType = null, int? originalMaxPositions = null, double rotatedShare = 1)
    {
        var key = config.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
        var scaling = config.Object(key) ?? [];
        if (layerType is not null && scaling[layerType] is JsonObject own)
        {
            scaling = own;
        }

        var unknown = scaling.Where(p => !s_known.Contains(p.Key) && !config.RopeSettings.Contains(p.Key) && !IgnoredSettings.Contains(p.Key, p.Value)).Select(static p => p.Key).ToList();
        config.Require(key, unknown.Count == 0, $"{string.Join(", ", unknown)}: unknown, and might change what the model computes.");
        var kind = Kind(config, key, scaling);
        double Value(string name, double? fallback) => config.Number(scaling[name], $"{key}: {name}", fallback);
        var original = Original(config, scaling, Value, kind == RopeKind.LongRope, originalMaxPositions);
        var share = kind == RopeKind.Proportional ? 1 : Share(config, scaling, Value, partial, rotatedShare);
        var rotated = (int)(headDimension * share);
        config.Require("partial_rotary_factor", partial || share == 1, "this family rotates whole heads; it must be 1.0.");
        config.Require("partial_rotary_factor", rotated >= 2 && rotated <= headDimension && rotated % 2 == 0, $"{rotated} of {headDimension} dimensions would be rotated; rotary embedding needs an even number.");
        var rope = new RopeConfig
        {
            Kind = kind,
            Theta = Value("rope_theta", config.Number("rope_theta", theta)),
            OriginalMaxPositions = kind == RopeKind.Dynamic ? maxPositions : original ?? maxPositions,
            RotatedShare = share,
        };
        return kind switch
        {
            RopeKind.Default => rope,
            RopeKind.Proportional => rope with { Factor = Value("factor", 1), TurnedShare = Value("partial_rotary_factor", 1) },
            RopeKind.LongRope => LongRope(config, key, scaling, rope, LongFactor(config, key, Value, original is { } length ? maxPositions / length : null), rotated),
            _ => rope with
            {
                Factor = Value("factor", kind == RopeKind.Yarn && original is { } trained ? maxPositions / trained : null),
                LowFrequencyFactor = Value("low_freq_factor", 1),
                HighFrequencyFactor = Value("high_freq_factor", 4),
                BetaFast = Value("beta_fast", 32),
                BetaSlow = Value("beta_slow", 1),
                Truncate = Truth(config, key, scaling, "truncate", true),
                AttentionFactor = kind == RopeKind.Yarn ? YarnScale(scaling, Value) : null,
            },
        };
    }

    // transformers writes it to rope_parameters and next to them; if they differ, the outer one takes precedence.
    private static double? Original(ConfigReader config, JsonObject scaling, Func<string, double?, double> value, bool counts, int? fallback)
    {
        const string name = "original_max_position_embeddings";
        var outer = config.OptionalNumber(name);
        if (outer is null && scaling[name] is not null)
        {
            // Families with a default of their own have it at the top level as well: transformers ignores the inner one there.
            var inner = value(name, null);
            config.Require(name, !counts || fallback is null || fallback == inner,
                string.Create(CultureInfo.InvariantCulture, $"it is inside the rotary settings ({inner}) but not at the top level, where transformers expects it for this family (default {fallback}); add it there too."));
            return inner;
        }

        return outer ?? fallback;
    }

    // As above; a family that rotates whole heads may state it.
    private static double Share(ConfigReader config, JsonObject scaling, Func<string, double?, double> value, bool partial, double fallback) =>
        partial && config.Has("partial_rotary_factor") ? config.Number("partial_rotary_factor") : value("partial_rotary_factor", fallback);

    // In rope_parameters (transformers 5) an explicit factor takes precedence over the ratio of the two lengths; in the older form the
    // ratio does.
    private static double LongFactor(ConfigReader config, string key, Func<string, double?, double> value, double? ratio) =>
        key == "rope_parameters" || ratio is null || !config.Has("original_max_position_embeddings") ? value("factor", ratio) : ratio.Value;

    private static bool Truth(ConfigReader config, string key, JsonObject scaling, string name, bool fallback) => scaling[name] switch
    {
        null => fallback,
        JsonValue value when value.TryGetValue<bool>(out var flag) => flag,
        var other => throw config.Error(key, $"{name}: true or false is expected, not {other.ToJsonString()}."),
    };

    private static RopeKind Kind(ConfigReader config, string key, JsonObject scaling)
    {
        var type = (scaling["rope_type"] ?? scaling["type"])?.ToString() ?? "default";
        return s_kinds.TryGetValue(type, out var kind)
            ? kind
            : throw config.Error(key, $"rope type '{type}' is not supported; supported are {string.Join(", ", s_kinds.Keys.SkipLast(2))} and longrope.");
    }

    // DeepSeek's two settings for YaRN's attention factor; either one alone has no effect.
    private static double? YarnScale(JsonObject scaling, Func<string, double?, double> value)
    {
        if (scaling["attention_factor"] is not null)
        {
            return value("attention_factor", null);
        }

        var (factor, scale, all) = (value("factor", 1), value("mscale", 0), value("mscale_all_dim", 0));
        double Scale(double weight) => factor <= 1 ? 1 : (0.1 * weight * Math.Log(factor)) + 1;
        return scale != 0 && all != 0 ? Scale(scale) / Scale(all) : null;
    }

    private static RopeConfig LongRope(ConfigReader config, string key, JsonObject scaling, RopeConfig rope, double factor, int rotated)
    {
        IReadOnlyList<double> Factors(string name)
        {
            var list = scaling[name] as JsonArray ?? throw config.Error(key, $"longrope needs {name}, a list of {rotated / 2} numbers.");
            config.Require(key, list.Count == rotated / 2, $"{name} has {list.Count} numbers, but {rotated / 2} are needed, one per rotated pair of dimensions.");
            return [.. list.Select(n => config.Number(n, $"{key}: {name}", null))];
        }

        return rope with
        {
            Factor = factor,
            ShortFactors = Factors("short_factor"),
            LongFactors = Factors("long_factor"),
            AttentionFactor = scaling["attention_factor"] is { } given ? config.Number(given, $"{key}: attention_factor", null) : null,
        };
    }
}
