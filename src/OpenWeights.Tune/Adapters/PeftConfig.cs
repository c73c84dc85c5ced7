using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>Converts between PEFT's adapter_config.json and <see cref="LoraConfig"/>.</summary>
internal static class PeftConfig
{
    // Keys of PEFT 0.14 to 0.21 that do not change what a LoRA adapter computes.
    private static readonly HashSet<string> s_harmless =
    [
        "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_type", "task_type", "peft_version", "init_lora_weights",
        "megatron_config", "megatron_core", "runtime_config", "qalora_group_size", "ensure_weight_tying",
        "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "use_rslora", "rank_pattern", "alpha_pattern",
        "bias", "use_dora", "lora_bias", "modules_to_save", "layers_to_transform", "layers_pattern", "target_parameters",
        .. PeftLoraSettings.Keys,
    ];

    /// <summary>Reads the settings and returns unknown keys for a warning.</summary>
    /// <exception cref="InvalidDataException">The adapter is of another type or uses an unsupported feature.</exception>
    internal static LoraConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown)
    {
        // A key of a later PEFT version has no effect if it is null, false or empty.
        unknown = [.. json.Where(static p => !s_harmless.Contains(p.Key) && p.Value?.ToJsonString() is not (null or "false" or "[]" or "{}" or "\"\"")).Select(static p => p.Key)];
        var settings = new PeftSettings(json, path);
        var config = new LoraConfig
        {
            Rank = settings.Int("r") ?? 8,
            Alpha = settings.Number("lora_alpha") ?? 8,
            Dropout = settings.Number("lora_dropout") ?? 0,
            TargetParameters = settings.Texts("target_parameters"),
            UseRslora = settings.Flag("use_rslora"),
            LoraBias = settings.Flag("lora_bias"),
            UseDora = settings.Flag("use_dora"),
            EnsureWeightTying = settings.Flag("ensure_weight_tying"),
            RankPattern = settings.Map("rank_pattern", static (s, key, value) => s.Int(key, value)),
            AlphaPattern = settings.Map("alpha_pattern", static (s, key, value) => s.Number(key, value)),
        };
        config = PeftLoraSettings.Read(config, json, path);
        return (LoraConfig)ReadCommon(config, json, path, needsTargets: config.TargetParameters.Count == 0);
    }

    /// <summary>Reads the settings that every kind has.</summary>
    /// <param name="config">The kind's own settings.</param>
    /// <param name="json">The file.</param>
    /// <param name="path">Its path, for messages.</param>
    /// <param name="needsTargets">Whether target_modules is required.</param>
    /// <exception cref="InvalidDataException">A setting is invalid.</exception>
    internal static AdapterConfig ReadCommon(AdapterConfig config, JsonObject json, string path, bool needsTargets = true)
    {
        InvalidDataException Error(string key, string problem) => new($"{path}: {key}: {problem}");
        var settings = new PeftSettings(json, path);
        var own = config.OwnBiases ?? "none";
        return config with
        {
            Targets = Targets(settings, "target_modules") ?? (needsTargets ? throw Error("target_modules", "it is missing.") : TargetModules.Of([])),
            Excluded = Targets(settings, "exclude_modules"),
            LayersToTransform = settings.Ints("layers_to_transform"),
            LayersPattern = settings.Texts("layers_pattern"),

            // For classifiers PEFT adds both names that heads have, of which a decoder has one.
            ModulesToSave = settings.Text("task_type") == "SEQ_CLS" ? [.. settings.Texts("modules_to_save").Where(static m => m != "classifier").Distinct()] : settings.Texts("modules_to_save"),
            Bias = settings.Text("bias") switch
            {
                null or "none" => BiasTraining.None,
                "all" => BiasTraining.All,
                { } text when text == own => BiasTraining.LoraOnly,
                _ => throw Error("bias", $"'{json["bias"]}' is not a valid value; valid values are none, all and {own}."),
            },
        };
    }

    /// <summary>
    /// The settings as PEFT writes them, based on the adapter's original file if there is one. all-linear is written as the list of module
    /// names, and a PiSSA adapter as the plain LoRA of twice the rank that its tensors are stored as.
    /// </summary>
    /// <param name="config">The settings.</param>
    /// <param name="modules">Names of the adapted modules.</param>
    /// <param name="baseModel">The base model to name if the adapter names none.</param>
    /// <param name="source">The adapter's original file; null for a new adapter.</param>
    /// <param name="part">Names of the text model's modules if the base model has other parts, whose modules may have the same names; otherwise null.</param>
    internal static JsonObject Write(LoraConfig config, IReadOnlyList<string> modules, string? baseModel, JsonObject? source, DecoderNames? part = null)
    {
        var json = source?.DeepClone().AsObject() ?? Fresh(config, modules);
        if (source is null && part is not null && config.Targets.Pattern is null)
        {
            json["target_modules"] = Within(part, config.Targets.Names ?? [.. Leaves(modules).Select(static n => n!.ToString())], modules);
        }

        WriteBase(json, baseModel);
        if (LoraStarts.SubtractsStart(config.Init))
        {
            // rsLoRA scales by alpha / sqrt(r), so doubling the rank needs a factor of sqrt(2).
            var factor = config.UseRslora ? Math.Sqrt(2) : 2;
            json["init_lora_weights"] = true;
            json["r"] = 2 * config.Rank;
            json["lora_alpha"] = Number(factor * config.Alpha);
            json["rank_pattern"] = new JsonObject(config.RankPattern.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)(2 * p.Value))));
            json["alpha_pattern"] = new JsonObject(config.AlphaPattern.Select(p => KeyValuePair.Create(p.Key, (JsonNode?)Number(factor * p.Value))));
        }

        return json;
    }

    /// <summary>Writes targets, and their ranks and alphas, into the settings of an adapter that was loaded from a file of other tensors.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="json">The file's settings.</param>
    internal static void WriteTargets(LoraConfig config, JsonObject json)
    {
        json["target_modules"] = Node(config.Targets);
        json["target_parameters"] = Names(config.TargetParameters);
        json["rank_pattern"] = new JsonObject(config.RankPattern.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)p.Value)));
        json["alpha_pattern"] = new JsonObject(config.AlphaPattern.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)Number(p.Value))));
    }

    private static string? LastName(string? path) => path is null ? null : path.Split('/', '\\').LastOrDefault(static p => p.Length > 0);

    private static JsonObject Fresh(LoraConfig config, IEnumerable<string> modules)
    {
        var json = FreshModules(config, modules);
        PeftLoraSettings.Write(config, json);
        if (config.TargetParameters.Count > 0)
        {
            json["peft_version"] = "0.21.0";
            json["target_parameters"] = Names(config.TargetParameters);
        }

        return json;
    }

    private static JsonObject FreshModules(LoraConfig config, IEnumerable<string> modules)
    {
        var json = WriteCommon(config, [.. modules], part: null);
        json["alpha_pattern"] = new JsonObject(config.AlphaPattern.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)Number(p.Value))));
        json["ensure_weight_tying"] = config.EnsureWeightTying;
        json["init_lora_weights"] = true;
        json["lora_alpha"] = Number(config.Alpha);
        json["lora_bias"] = config.LoraBias;
        json["lora_dropout"] = config.Dropout;
        json["peft_type"] = "LORA";
        json["peft_version"] = "0.14.0";
        json["r"] = config.Rank;
        json["rank_pattern"] = new JsonObject(config.RankPattern.Select(static p => KeyValuePair.Create(p.Key, (JsonNode?)p.Value)));
        json["use_dora"] = config.UseDora;
        json["use_rslora"] = config.UseRslora;
        return json;
    }

    /// <summary>The settings that every kind has, as PEFT writes them; AdapterFolder sorts the keys.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="modules">Names of the adapted modules.</param>
    /// <param name="part">See <see cref="Write"/>.</param>
    internal static JsonObject WriteCommon(AdapterConfig config, IReadOnlyList<string> modules, DecoderNames? part)
    {
        var json = new JsonObject
        {
            ["auto_mapping"] = null,
            ["base_model_name_or_path"] = null,
            ["exclude_modules"] = Node(config.Excluded),
            ["fan_in_fan_out"] = false,
            ["inference_mode"] = true,
            ["layers_pattern"] = config.LayersPattern.Count == 0 ? null : Names(config.LayersPattern),
            ["layers_to_transform"] = config.LayersToTransform.Count == 0 ? null : new JsonArray([.. config.LayersToTransform.Select(static l => (JsonNode)l)]),
            ["modules_to_save"] = config.ModulesToSave.Count == 0 ? null : Names(config.ModulesToSave),
            ["peft_version"] = "0.21.0",
            ["revision"] = null,
            ["target_modules"] = part is not null && config.Targets.Pattern is null ? Within(part, config.Targets.Names ?? [.. Leaves(modules).Select(static n => n!.ToString())], modules) : Node(config.Targets) ?? Leaves(modules),
            ["task_type"] = "CAUSAL_LM",
        };
        if (config.OwnBiases is { } own)
        {
            json["bias"] = config.Bias switch
            {
                BiasTraining.All => "all",
                BiasTraining.LoraOnly => own,
                _ => "none",
            };
        }

        return json;
    }

    /// <summary>Writes the base model's name.</summary>
    /// <param name="json">The settings.</param>
    /// <param name="baseModel">The base model to name if the adapter names none.</param>
    internal static void WriteBase(JsonObject json, string? baseModel)
    {
        var named = json["base_model_name_or_path"]?.ToString();

        // A local path is not a model name.
        json["base_model_name_or_path"] = named is { Length: > 0 } && !Path.IsPathRooted(named) && named[0] is not '~' ? named : baseModel ?? LastName(named);
        json["inference_mode"] = true;
    }

    private static JsonArray Names(IEnumerable<string> names) => new([.. names.Select(static n => (JsonNode)n)]);

    private static TargetModules? Targets(PeftSettings settings, string key) =>
        settings.IsList(key) ? TargetModules.Of(settings.Texts(key)) : settings.Text(key) is { } text ? TargetModules.Of(text) : null;

    private static JsonNode? Node(TargetModules? targets) => targets switch
    {
        { Names: { } names } => new JsonArray([.. names.Order(StringComparer.Ordinal).Select(static n => (JsonNode)n)]),
        { Pattern: { } pattern } => pattern,
        _ => null,
    };

    private static JsonArray Leaves(IEnumerable<string> modules) =>
        new([.. modules.Select(static m => m[(m.LastIndexOf('.') + 1)..]).Distinct().Order(StringComparer.Ordinal).Select(static n => (JsonNode)n)]);

    // A pattern, which must match a whole name, since a name alone would also be found in a vision tower.
    private static string Within(DecoderNames part, IReadOnlyList<string> names, IReadOnlyList<string> modules)
    {
        static bool Names(string name, string module) => module == name || module.EndsWith($".{name}", StringComparison.Ordinal);
        var stack = $"{part.Stack}.";
        var inside = names.Where(name => modules.Any(m => m.StartsWith(stack, StringComparison.Ordinal) && Names(name, m)))
            .Select(name => Regex.Escape(name.StartsWith(stack, StringComparison.Ordinal) ? name[stack.Length..] : name)).Order(StringComparer.Ordinal);
        var pattern = $@"{Regex.Escape(stack)}(?:.*\.)?(?:{string.Join('|', inside)})";
        return names.Any(name => Names(name, part.Head)) && modules.Contains(part.Head) ? $"{pattern}|{Regex.Escape(part.Head)}" : pattern;
    }

    /// <summary>A number as PEFT writes it: an integer without a decimal point.</summary>
    internal static JsonNode Number(double value) => value == Math.Floor(value) && Math.Abs(value) < 1e15 ? JsonValue.Create((long)value) : JsonValue.Create(value);
}
