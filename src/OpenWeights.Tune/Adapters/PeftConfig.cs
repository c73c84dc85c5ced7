using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Adapters;

/// <summary>PEFT's adapter_config.json, to and from the settings here.</summary>
internal static class PeftConfig
{
    // What may stand in a file of PEFT 0.14 to 0.20 without changing what a LoRA adapter computes.
    private static readonly HashSet<string> s_harmless =
    [
        "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_type", "task_type", "peft_version", "init_lora_weights",
        "megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "runtime_config", "qalora_group_size", "ensure_weight_tying",
        "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "use_rslora", "rank_pattern", "alpha_pattern",
    ];

    // What changes the maths, with the values that mean that it is not used.
    private static readonly Dictionary<string, string[]> s_unused = new()
    {
        ["bias"] = ["\"none\""],
        ["use_dora"] = ["false", "null"],
        ["lora_bias"] = ["false", "null"],
        ["fan_in_fan_out"] = ["false", "null"],
        ["modules_to_save"] = ["null", "[]"],
        ["layers_to_transform"] = ["null"],
        ["layers_pattern"] = ["null", "[]"],
        ["layer_replication"] = ["null"],
        ["trainable_token_indices"] = ["null"],
        ["target_parameters"] = ["null", "[]"],
        ["use_qalora"] = ["false", "null"],
        ["alora_invocation_tokens"] = ["null"],
        ["arrow_config"] = ["null"],
        ["use_bdlora"] = ["false", "null"],
        ["lora_ga_config"] = ["null"],
        ["monteclora_config"] = ["null"],
    };

    /// <summary>Reads the settings; keys that are not known are given back, for a warning.</summary>
    /// <exception cref="InvalidDataException">The adapter is of another type or uses what is not implemented here.</exception>
    internal static LoraConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown)
    {
        InvalidDataException Error(string key, string problem) => new($"{path}: {key}: {problem}");
        if (json["peft_type"]?.ToString() != "LORA")
        {
            throw Error("peft_type", $"'{json["peft_type"]}' adapters cannot be read; LORA ones can.");
        }

        foreach (var (key, values) in s_unused)
        {
            var text = json[key]?.ToJsonString() ?? "null";
            if (json.ContainsKey(key) && !values.Contains(text))
            {
                throw Error(key, $"the adapter uses {text}, which this version does not implement.");
            }
        }

        unknown = [.. json.Select(static p => p.Key).Where(static key => !s_harmless.Contains(key) && !s_unused.ContainsKey(key))];
        try
        {
            return new LoraConfig
            {
                Rank = json["r"]?.GetValue<int>() ?? 8,
                Alpha = json["lora_alpha"]?.GetValue<double>() ?? 8,
                Dropout = json["lora_dropout"]?.GetValue<double>() ?? 0,
                Targets = Targets(json["target_modules"]) ?? throw Error("target_modules", "it is missing."),
                Excluded = Targets(json["exclude_modules"]),
                UseRslora = json["use_rslora"]?.GetValue<bool>() ?? false,
                RankPattern = json["rank_pattern"] is JsonObject ranks ? ranks.ToDictionary(static p => p.Key, static p => p.Value!.GetValue<int>()) : new Dictionary<string, int>(),
                AlphaPattern = json["alpha_pattern"] is JsonObject alphas ? alphas.ToDictionary(static p => p.Key, static p => p.Value!.GetValue<double>()) : new Dictionary<string, double>(),
            };
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"{path}: a setting has the wrong type ({e.Message}).", e);
        }
    }

    /// <summary>The settings as PEFT writes them. all-linear is written as the names that it stands for.</summary>
    internal static JsonObject Write(LoraConfig config, IEnumerable<string> modules, string? baseModel) => new()
    {
        ["alpha_pattern"] = new JsonObject(config.AlphaPattern.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)Number(p.Value)))),
        ["auto_mapping"] = null,
        ["base_model_name_or_path"] = baseModel,
        ["bias"] = "none",
        ["exclude_modules"] = Node(config.Excluded),
        ["fan_in_fan_out"] = false,
        ["inference_mode"] = true,
        ["init_lora_weights"] = true,
        ["layers_pattern"] = null,
        ["layers_to_transform"] = null,
        ["lora_alpha"] = Number(config.Alpha),
        ["lora_bias"] = false,
        ["lora_dropout"] = config.Dropout,
        ["modules_to_save"] = null,
        ["peft_type"] = "LORA",
        ["peft_version"] = "0.14.0",
        ["r"] = config.Rank,
        ["rank_pattern"] = new JsonObject(config.RankPattern.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)p.Value))),
        ["revision"] = null,
        ["target_modules"] = Node(config.Targets) ?? Leaves(modules),
        ["task_type"] = "CAUSAL_LM",
        ["use_dora"] = false,
        ["use_rslora"] = config.UseRslora,
    };

    private static TargetModules? Targets(JsonNode? node) => node switch
    {
        null => null,
        JsonArray names => TargetModules.Of([.. names.Select(static n => n!.GetValue<string>())]),
        _ => TargetModules.Of(node.GetValue<string>()),
    };

    private static JsonNode? Node(TargetModules? targets) => targets switch
    {
        { Names: { } names } => new JsonArray([.. names.Order(StringComparer.Ordinal).Select(static n => (JsonNode)n)]),
        { Pattern: { } pattern } => pattern,
        _ => null,
    };

    private static JsonArray Leaves(IEnumerable<string> modules) =>
        new([.. modules.Select(static m => m[(m.LastIndexOf('.') + 1)..]).Distinct().Order(StringComparer.Ordinal).Select(static n => (JsonNode)n)]);

    // PEFT writes an alpha that was given as a whole number without a point.
    private static JsonNode Number(double value) => value == Math.Floor(value) && Math.Abs(value) < 1e15 ? JsonValue.Create((long)value) : JsonValue.Create(value);
}
