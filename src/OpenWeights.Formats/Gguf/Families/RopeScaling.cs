using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Converts rope_scaling of a config.json (transformers' modeling_rope_utils) to and from GGUF.</summary>
internal static class RopeScaling
{
    private const string FactorsName = "rope_freqs.weight";
    private const string LongName = "rope_factors_long.weight";
    private const string ShortName = "rope_factors_short.weight";
    private const string RuleKey = "openweights.rope_scaling";

    // GPT-OSS is published with bounds between whole dimensions, and llama.cpp's own files of it have them rounded.
    private const string Unrounded = "gpt-oss";

    /// <summary>Whether a tensor contains divisors of rotary frequencies rather than a weight.</summary>
    /// <param name="name">The tensor's name.</param>
    public static bool IsTable(string name) => name is FactorsName or LongName or ShortName;

    /// <summary>Base of the rotary frequencies.</summary>
    internal static double Theta(ConfigJson config, double usual) => Scaling(config)?.Number("rope_theta", config.Number("rope_theta", usual)) ?? config.Number("rope_theta", usual);

    /// <summary>Base of the rotary frequencies of layers of one type.</summary>
    internal static double Theta(ConfigJson config, string layerType, double usual) => Of(config, layerType)?.Number("rope_theta", config.Number("rope_theta", usual)) ?? config.Number("rope_theta", usual);

    /// <summary>The rotary settings of layers of one type; those of all if there is no difference.</summary>
    internal static ConfigJson? Of(ConfigJson config, string layerType) =>
        config.Object("rope_parameters") is { } parameters ? parameters.Object(layerType) ?? parameters : config.Object("rope_scaling");

    /// <summary>Writes the keys of a scaling type.</summary>
    internal static void Write(ConfigJson config, GgufMetadata metadata, string architecture, int maxPositions)
    {
        var scaling = Scaling(config);
        void Add(string key, object value) => metadata.Add($"{architecture}.rope.scaling.{key}", value);
        switch (Kind(scaling))
        {
            case "default":
                break;
            case "dynamic":
                // It changes nothing up to the longest context, which the file has.
                break;
            case "llama3":
                // llama.cpp uses only the divisors; the parameters of the rule are for our own reader.
                metadata.Add(RuleKey, scaling!.ToString());
                break;
            case "linear":
                Add("type", "linear");
                Add("factor", (float)scaling!.Number("factor"));
                break;
            case "yarn" when Rounds(scaling!) || architecture == Unrounded:
                var original = OriginalContext(config, scaling!, maxPositions);
                var factor = scaling!.Number("factor", (double)maxPositions / original);
                Add("type", "yarn");
                Add("factor", (float)factor);
                Add("original_context_length", (uint)original);
                Add("yarn_beta_fast", (float)scaling.Number("beta_fast", 32));
                Add("yarn_beta_slow", (float)scaling.Number("beta_slow", 1));
                YarnFactors.Write(scaling, factor, architecture, metadata);
                if (!Rounds(scaling))
                {
                    // For our own reader, which does not round them either.
                    metadata.Add(RuleKey, scaling.ToString());
                }

                break;
            case "longrope" when architecture is "phi3" or "minicpm3":
                var trained = OriginalContext(config, scaling!, 4096);
                Add("original_context_length", (uint)trained);
                Add("attn_factor", (float)scaling!.Number("attention_factor", LongRopeScale(LongRopeFactor(config, scaling, (double)maxPositions / trained), trained)));
                break;
            case var kind:
                throw config.Error("rope_scaling", $"GGUF cannot represent rotary scaling of type '{kind}' with these settings; export a merged folder instead.");
        }
    }

    /// <summary>Tensors with the divisors of each pair's frequency, for scaling types that have them.</summary>
    internal static IReadOnlyList<(string Name, float[] Divisors)> Tensors(ConfigJson config, int headLength, double usualTheta)
    {
        var scaling = Scaling(config);
        float[] List(string key) => [.. (scaling!.Numbers(key) ?? throw config.Error("rope_scaling", $"longrope needs {key}.")).Select(static n => (float)n)];
        return Kind(scaling) switch
        {
            "llama3" => [(FactorsName, Llama3Divisors(scaling!, Theta(config, usualTheta), headLength))],
            "longrope" => [(LongName, List("long_factor")), (ShortName, List("short_factor"))],
            _ => [],
        };
    }

    /// <summary>The rope_scaling for a file's keys; null for none.</summary>
    internal static JsonObject? Read(GgufMetadata metadata, string architecture, GgufFile file)
    {
        if (file.Contains(FactorsName))
        {
            return Llama3(metadata, architecture, file);
        }

        var key = $"{architecture}.rope.scaling";
        if (file.Contains(LongName))
        {
            return LongRope(metadata, key, file);
        }

        var type = metadata.Text($"{key}.type") ?? "none";
        return type switch
        {
            "none" => null,
            "linear" => new JsonObject { ["rope_type"] = "linear", ["factor"] = metadata.Number($"{key}.factor") },
            "yarn" => metadata.Text(RuleKey) is { } rule ? JsonFile.ParseObject(Encoding.UTF8.GetBytes(rule), $"{metadata.Location}: {RuleKey}") : Yarn(metadata, key, architecture),
            _ => throw metadata.Error($"{key}.type", $"rotary scaling of type '{type}' cannot be read."),
        };
    }

    /// <summary>Whether a config's YaRN has its bounds between whole dimensions, to which llama.cpp rounds them.</summary>
    /// <param name="config">The model's config.json.</param>
    public static bool IsRoundedInLlamaCpp(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Scaling(config) is { } scaling && Kind(scaling) == "yarn" && !Rounds(scaling);
    }

    private static bool Rounds(ConfigJson scaling) => !scaling.Has("truncate") || scaling.Flag("truncate");

    // transformers writes it in both places; if they differ, the outer one takes precedence.
    private static int OriginalContext(ConfigJson config, ConfigJson scaling, int usual) =>
        config.Has("original_max_position_embeddings") ? config.Int("original_max_position_embeddings") : scaling.Int("original_max_position_embeddings", usual);

    // In transformers 5's form an explicit factor takes precedence over the ratio of the two lengths.
    private static double LongRopeFactor(ConfigJson config, ConfigJson scaling, double ratio) => config.Has("rope_parameters") ? scaling.Number("factor", ratio) : ratio;

    private static double LongRopeScale(double factor, int original) => factor <= 1 ? 1 : Math.Sqrt(1 + (Math.Log(factor) / Math.Log(original)));

    private static JsonObject Yarn(GgufMetadata metadata, string key, string architecture)
    {
        var rule = new JsonObject
        {
            ["rope_type"] = "yarn",
            ["factor"] = metadata.Number($"{key}.factor"),
            ["original_max_position_embeddings"] = metadata.Number($"{key}.original_context_length"),
            ["beta_fast"] = metadata.Number($"{key}.yarn_beta_fast") ?? 32,
            ["beta_slow"] = metadata.Number($"{key}.yarn_beta_slow") ?? 1,
        };
        if (architecture == Unrounded)
        {
            rule["truncate"] = false;
        }

        YarnFactors.Read(metadata, key, architecture, rule);
        return rule;
    }

    private static JsonObject LongRope(GgufMetadata metadata, string key, GgufFile file)
    {
        JsonArray List(string name) => [.. Divisors(file, name).Select(static d => (JsonNode)GgufFamily.Round(d))];
        return new JsonObject
        {
            ["rope_type"] = "longrope",
            ["attention_factor"] = metadata.Number($"{key}.attn_factor") ?? 1,
            ["original_max_position_embeddings"] = metadata.Int($"{key}.original_context_length") ?? throw metadata.Error($"{key}.original_context_length", "this key is missing."),
            ["long_factor"] = List(LongName),
            ["short_factor"] = List(ShortName),
        };
    }

    /// <summary>
    /// Files of other programs contain only the divisors. All published ones follow Llama 3's rule with low 1, high 4 and a context of
    /// 8192, and differ only in the factor, which is the largest divisor. The resulting rule must reproduce the divisors.
    /// </summary>
    private static JsonObject Llama3(GgufMetadata metadata, string architecture, GgufFile file)
    {
        var divisors = Divisors(file, FactorsName);
        var rule = metadata.Text(RuleKey) is { } text
            ? JsonFile.ParseObject(Encoding.UTF8.GetBytes(text), $"{metadata.Location}: {RuleKey}")
            : new JsonObject
            {
                ["rope_type"] = "llama3",
                ["factor"] = Math.Round(divisors.Max(), 4),
                ["low_freq_factor"] = 1.0,
                ["high_freq_factor"] = 4.0,
                ["original_max_position_embeddings"] = 8192,
            };
        var theta = metadata.Number($"{architecture}.rope.freq_base") ?? 10000;
        return divisors.Zip(Llama3Divisors(new ConfigJson(rule, file.Location), theta, divisors.Length * 2)).All(static pair => Math.Abs(pair.First - pair.Second) <= 1e-4f * pair.First)
            ? rule
            : throw new InvalidDataException($"{file.Location}: the rotary divisors in {FactorsName} are not those of Llama 3's rule with its usual settings, and cannot be read.");
    }

    private static float[] Llama3Divisors(ConfigJson scaling, double theta, int headLength)
    {
        var (factor, low, high) = (scaling.Number("factor"), scaling.Number("low_freq_factor", 1), scaling.Number("high_freq_factor", 4));
        var context = scaling.Number("original_max_position_embeddings", 8192);
        var factors = new float[headLength / 2];
        for (var i = 0; i < factors.Length; i++)
        {
            var wavelength = 2 * Math.PI * Math.Pow(theta, 2.0 * i / headLength);
            var smooth = ((context / wavelength) - low) / (high - low);
            factors[i] = (float)(wavelength < context / high ? 1 : wavelength > context / low ? factor : 1 / (((1 - smooth) / factor) + smooth));
        }

        return factors;
    }

    private static float[] Divisors(GgufFile file, string name)
    {
        var tensor = file.GetTensor(name);
        var divisors = new float[tensor.ElementCount];
        file.ReadRows(tensor, 0, divisors);
        return divisors;
    }

    // If layer types have separate settings, those of the full-attention layers are used.
    internal static ConfigJson? Scaling(ConfigJson config) => config.Object("rope_parameters") is { } parameters ? parameters.Object("full_attention") ?? parameters : config.Object("rope_scaling");

    private static string Kind(ConfigJson? scaling) => (scaling?.Text("rope_type") ?? scaling?.Text("type") ?? "default") is var kind && kind == "su" ? "longrope"
        : kind == "mrope" ? "default" // The parts of a position are equal in texts.
        : kind == "dynamic" && scaling!.Has("alpha") ? "default" // Hunyuan's, which is in the base.
        : kind;
}
