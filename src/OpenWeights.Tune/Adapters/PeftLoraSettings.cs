using System.Text.Json.Nodes;
using OpenWeights.Tune.Adapters.Starts;

namespace OpenWeights.Tune.Adapters;

/// <summary>The settings of LoRA's forms in adapter_config.json: starts, single tokens, invocation tokens, replicated layers, blocks, singular values.</summary>
internal static class PeftLoraSettings
{
    // Forms of LoRA that PEFT 0.21 knows and this program does not.
    private static readonly Dictionary<string, string> s_refused = new()
    {
        ["use_qalora"] = "QALoRA, which pools the inputs of a quantized layer",
        ["velora_config"] = "VeLoRA, which compresses activations for backward",
        ["monteclora_config"] = "MonteCLoRA, whose matrices are sampled",
        ["arrow_config"] = "Arrow, which routes between several adapters",
    };

    /// <summary>Keys that are read here.</summary>
    internal static IReadOnlyList<string> Keys { get; } =
    [
        "eva_config", "corda_config", "loftq_config", "lora_ga_config", "trainable_token_indices", "alora_invocation_tokens", "layer_replication", "use_bdlora", "kasa_config",
        "fan_in_fan_out", .. s_refused.Keys,
    ];

    /// <summary>Reads the settings.</summary>
    /// <param name="config">What was read before.</param>
    /// <param name="json">The file.</param>
    /// <param name="path">Its path, for messages.</param>
    /// <exception cref="InvalidDataException">A setting is invalid or not supported.</exception>
    internal static LoraConfig Read(LoraConfig config, JsonObject json, string path)
    {
        if (s_refused.FirstOrDefault(r => Has(json, r.Key)) is { Key: { } key, Value: var what })
        {
            throw new InvalidDataException($"{path}: {key}: the adapter uses {what}; that is not supported.");
        }

        var settings = new PeftSettings(json, path);
        if (!LoraStarts.TryRead(json["init_lora_weights"]?.ToString(), ref config))
        {
            throw new InvalidDataException($"{path}: init_lora_weights: '{json["init_lora_weights"]}' is not a start that this program knows; in PEFT, save the adapter with path_initial_model_for_weight_conversion, which converts it to a plain LoRA.");
        }

        return config with
        {
            Eva = settings.Section("eva_config") is { } eva ? Eva(eva) : config.Eva,
            Corda = settings.Section("corda_config") is { } corda ? new CordaSettings { PreservesKnowledge = corda.Choice("corda_method", "ipm", "kpm") == "kpm" } : config.Corda,
            Loftq = settings.Section("loftq_config") is { } loftq ? new LoftqSettings { Bits = loftq.Int("loftq_bits") ?? 4, Iterations = loftq.Int("loftq_iter") ?? 1 } : config.Loftq,
            LoraGa = settings.Section("lora_ga_config") is { } ga ? LoraGa(ga) : config.LoraGa,
            BlockDiagonal = settings.Section("use_bdlora") is { } blocks ? Blocks(blocks) : null,
            Kasa = settings.Section("kasa_config") is { } kasa ? new KasaSettings { Beta = kasa.Number("beta") ?? 1e-4, Gamma = kasa.Number("gamma") ?? 1e-3 } : null,
            InvocationTokens = settings.Ints("alora_invocation_tokens"),
            LayerReplication = Replication(json, path),
            TrainableTokens = Tokens(settings, json),
        };
    }

    /// <summary>Writes the settings of a new adapter that differ from PEFT's defaults.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="json">Receives them.</param>
    internal static void Write(LoraConfig config, JsonObject json)
    {
        var before = json.Count;
        json["init_lora_weights"] = config.Init == LoraInit.Kaiming || LoraStarts.SubtractsStart(config.Init) ? true : LoraStarts.Name(config);
        if (config.Init == LoraInit.Loftq)
        {
            json["loftq_config"] = new JsonObject { ["loftq_bits"] = config.Loftq.Bits, ["loftq_iter"] = config.Loftq.Iterations };
        }

        if (config.Init == LoraInit.Eva)
        {
            json["eva_config"] = new JsonObject
            {
                ["adjust_scaling_factors"] = config.Eva.AdjustScalingFactors,
                ["label_mask_value"] = -100,
                ["rho"] = config.Eva.Rho,
                ["tau"] = config.Eva.Tau,
                ["use_label_mask"] = config.Eva.UseLabelMask,
                ["whiten"] = config.Eva.Whiten,
            };
        }

        if (config.TrainableTokens.Count > 0)
        {
            json["trainable_token_indices"] = config.TrainableTokens is [{ Modules: null } only] ? Ints(only.Tokens)
                : new JsonObject(config.TrainableTokens.SelectMany(static t => (t.Modules?.Names ?? ["embed_tokens"]).Select(name => KeyValuePair.Create(name, (JsonNode?)Ints(t.Tokens)))));
        }

        if (config.InvocationTokens.Count > 0)
        {
            json["alora_invocation_tokens"] = Ints(config.InvocationTokens);
        }

        if (config.LayerReplication.Count > 0)
        {
            json["layer_replication"] = new JsonArray([.. config.LayerReplication.Select(static r => (JsonNode)Ints([r.First, r.End]))]);
        }

        if (config.BlockDiagonal is { } blocks)
        {
            json["use_bdlora"] = new JsonObject { ["match_strict"] = blocks.MatchStrict, ["nblocks"] = blocks.Blocks, ["target_modules_bd_a"] = Texts(blocks.OfA), ["target_modules_bd_b"] = Texts(blocks.OfB) };
        }

        if (config.Kasa is { } kasa)
        {
            json["kasa_config"] = new JsonObject { ["beta"] = kasa.Beta, ["gamma"] = kasa.Gamma };
        }

        if (json.Count > before)
        {
            json["peft_version"] = "0.21.0";
        }
    }

    /// <summary>The settings of a new adapter that trains rows of tokens alone.</summary>
    /// <param name="rows">The rows.</param>
    internal static JsonObject TokensAlone(TokenRows rows) => new()
    {
        ["auto_mapping"] = null,
        ["base_model_name_or_path"] = null,
        ["inference_mode"] = true,
        ["init_weights"] = true,
        ["peft_type"] = "TRAINABLE_TOKENS",
        ["peft_version"] = "0.21.0",
        ["revision"] = null,
        ["target_modules"] = rows.Modules is null ? null : rows.Modules.Pattern is { } pattern ? pattern : Texts(rows.Modules.Names ?? []),
        ["task_type"] = "CAUSAL_LM",
        ["token_indices"] = Ints(rows.Tokens),
    };

    private static bool Has(JsonObject json, string key) => json[key]?.ToJsonString() is not (null or "false" or "null");

    private static EvaSettings Eva(PeftSettings eva) => new()
    {
        Rho = eva.Number("rho") ?? 2,
        Tau = eva.Number("tau") ?? 0.99,
        UseLabelMask = eva.Flag("use_label_mask", or: true),
        Whiten = eva.Flag("whiten"),
        AdjustScalingFactors = eva.Flag("adjust_scaling_factors", or: true),
    };

    private static LoraGaSettings LoraGa(PeftSettings ga) => new()
    {
        Direction = ga.Choice("direction", "ArB2r", "ArBr", "A2rBr", "random"),
        Scale = ga.Choice("scale", "stable", "weight_svd", "gd_scale", "unit"),
        StableGamma = ga.Number("stable_gamma") ?? 16,
    };

    private static BlockDiagonalSettings Blocks(PeftSettings blocks) => new()
    {
        OfA = blocks.Texts("target_modules_bd_a"),
        OfB = blocks.Texts("target_modules_bd_b"),
        Blocks = blocks.Int("nblocks") ?? 1,
        MatchStrict = blocks.Flag("match_strict", or: true),
    };

    private static IReadOnlyList<TokenRows> Tokens(PeftSettings settings, JsonObject json) => json["trainable_token_indices"] switch
    {
        null => [],
        JsonObject map => [.. map.Select(p => new TokenRows(TargetModules.Of([p.Key]), new PeftSettings(map, settings.Place("trainable_token_indices")).Ints(p.Key)))],
        _ => [new TokenRows(null, settings.Ints("trainable_token_indices"))],
    };

    // More copies than any model has are a number that was made up.
    private const int MostLayers = 10_000;

    private static IReadOnlyList<(int First, int End)> Replication(JsonObject json, string path)
    {
        if (json["layer_replication"] is not { } node)
        {
            return [];
        }

        var ranges = (node as JsonArray)?.Select(static r => r as JsonArray).Select(static r => r is [JsonValue first, JsonValue end] && first.TryGetValue<int>(out var from) && end.TryGetValue<int>(out var to)
            ? (First: from, End: to) : ((int First, int End)?)null).ToList();
        return ranges is { Count: > 0 } && ranges.TrueForAll(static r => r is { First: >= 0 } range && range.End > range.First) && ranges.Sum(static r => (long)r!.Value.End - r.Value.First) <= MostLayers
            ? [.. ranges.Select(static r => r!.Value)]
            : throw new InvalidDataException($"{path}: layer_replication: a list of ranges [first layer, end] is expected, such as [[0, 4], [2, 5]], not {node.ToJsonString()}.");
    }

    private static JsonArray Ints(IEnumerable<int> values) => new([.. values.Select(static v => (JsonNode)v)]);

    private static JsonArray Texts(IEnumerable<string> values) => new([.. values.Select(static v => (JsonNode)v)]);
}
