using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>rope_scaling of a config.json (transformers' modeling_rope_utils) as GGUF says it.</summary>
public static class RopeScaling
{
    /// <summary>The tensor of what frequencies are divided by.</summary>
    public const string FactorsName = "rope_freqs.weight";

    private const string RuleKey = "openweights.rope_scaling";

    /// <summary>The base of the rotary frequencies.</summary>
    /// <param name="config">The config.json.</param>
    internal static double Theta(ConfigJson config) => Scaling(config)?.Number("rope_theta", config.Number("rope_theta", 10000)) ?? config.Number("rope_theta", 10000);

    /// <summary>The keys of a kind of scaling that has keys.</summary>
    internal static void Write(ConfigJson config, GgufMetadata metadata, string architecture)
    {
        var scaling = Scaling(config);
        switch (Kind(scaling))
        {
            case "default":
                break;
            case "llama3":
                // llama.cpp takes the divisors alone; the rule that they came from is for our own reader.
                metadata.Add(RuleKey, scaling!.ToString());
                break;
            case "linear":
                metadata.Add($"{architecture}.rope.scaling.type", "linear");
                metadata.Add($"{architecture}.rope.scaling.factor", (float)scaling!.Number("factor"));
                break;
            case "yarn" when !scaling!.Has("attention_factor"):
                metadata.Add($"{architecture}.rope.scaling.type", "yarn");
                metadata.Add($"{architecture}.rope.scaling.factor", (float)scaling.Number("factor"));
                metadata.Add($"{architecture}.rope.scaling.original_context_length", (uint)scaling.Int("original_max_position_embeddings", config.Int("max_position_embeddings")));
                metadata.Add($"{architecture}.rope.scaling.yarn_beta_fast", (float)scaling.Number("beta_fast", 32));
                metadata.Add($"{architecture}.rope.scaling.yarn_beta_slow", (float)scaling.Number("beta_slow", 1));
                break;
            case var kind:
                throw config.Error("rope_scaling", $"GGUF cannot say rotary scaling of type '{kind}' with these settings; export a merged folder instead.");
        }
    }

    /// <summary>What Llama 3 divides each frequency by; null for other kinds.</summary>
    /// <param name="config">The config.json.</param>
    /// <param name="headLength">The width of a head.</param>
    public static float[]? Factors(ConfigJson config, int headLength)
    {
        var scaling = Scaling(config);
        if (Kind(scaling) != "llama3")
        {
            return null;
        }

        var (factor, low, high) = (scaling!.Number("factor"), scaling.Number("low_freq_factor", 1), scaling.Number("high_freq_factor", 4));
        var context = scaling.Number("original_max_position_embeddings", 8192);
        var theta = Theta(config);
        var factors = new float[headLength / 2];
        for (var i = 0; i < factors.Length; i++)
        {
            var wavelength = 2 * Math.PI * Math.Pow(theta, 2.0 * i / headLength);
            var smooth = ((context / wavelength) - low) / (high - low);
            factors[i] = (float)(wavelength < context / high ? 1 : wavelength > context / low ? factor : 1 / (((1 - smooth) / factor) + smooth));
        }

        return factors;
    }

    /// <summary>A config.json's rope_scaling of a file's keys; null for none.</summary>
    internal static JsonObject? Read(GgufMetadata metadata, string architecture, GgufFile file)
    {
        if (file.Contains(FactorsName))
        {
            return Llama3(metadata, architecture, file);
        }

        var key = $"{architecture}.rope.scaling";
        var type = metadata.Text($"{key}.type") ?? "none";
        return type switch
        {
            "none" => null,
            "linear" => new JsonObject { ["rope_type"] = "linear", ["factor"] = metadata.Number($"{key}.factor") },
            "yarn" => new JsonObject
            {
                ["rope_type"] = "yarn",
                ["factor"] = metadata.Number($"{key}.factor"),
                ["original_max_position_embeddings"] = metadata.Number($"{key}.original_context_length"),
                ["beta_fast"] = metadata.Number($"{key}.yarn_beta_fast") ?? 32,
                ["beta_slow"] = metadata.Number($"{key}.yarn_beta_slow") ?? 1,
            },
            _ => throw metadata.Error($"{key}.type", $"rotary scaling of type '{type}' cannot be read."),
        };
    }

    /// <summary>
    /// A file of another program has only the divisors. All that were published are of one rule with low 1, high 4 and a context of
    /// 8192, and differ in the factor, which is the largest divisor. Whichever rule is taken must give the same divisors.
    /// </summary>
    private static JsonObject Llama3(GgufMetadata metadata, string architecture, GgufFile file)
    {
        var tensor = file.GetTensor(FactorsName);
        var divisors = new float[tensor.ElementCount];
        file.ReadRows(tensor, 0, divisors);
        var rule = metadata.Text(RuleKey) is { } text
            ? JsonNode.Parse(text)!.AsObject()
            : new JsonObject
            {
                ["rope_type"] = "llama3",
                ["factor"] = Math.Round(divisors.Max(), 4),
                ["low_freq_factor"] = 1.0,
                ["high_freq_factor"] = 4.0,
                ["original_max_position_embeddings"] = 8192,
            };
        var config = new ConfigJson(new JsonObject { ["rope_theta"] = metadata.Number($"{architecture}.rope.freq_base") ?? 10000, ["rope_scaling"] = rule.DeepClone() }, file.Location);
        return divisors.Zip(Factors(config, divisors.Length * 2)!).All(static pair => Math.Abs(pair.First - pair.Second) <= 1e-4f * pair.First)
            ? rule
            : throw new InvalidDataException($"{file.Location}: the rotary divisors in {FactorsName} are not those of Llama 3's rule with its usual settings, and cannot be read.");
    }

    private static ConfigJson? Scaling(ConfigJson config) => config.Object("rope_parameters") ?? config.Object("rope_scaling");

    private static string Kind(ConfigJson? scaling) => scaling?.Text("rope_type") ?? scaling?.Text("type") ?? "default";
}
