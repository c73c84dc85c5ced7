using System.CommandLine;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt inspect.</summary>
internal static class InspectCommand
{
    private static readonly Argument<string> s_path = new("path") { Description = "A model, adapter or run folder; a safetensors, GGUF or tokenizer file; or a name on the Hub, of whose weights the headers alone are read.", HelpName = "PATH" };
    private static readonly Option<bool> s_tensors = new("--tensors") { Description = "List every tensor with its dtype and shape; --json always does." };
    private static readonly Option<bool> s_json = CommonOptions.Json();

    // Files often found beside a model that are not tokenizers.
    private static readonly string[] s_others = [".jsonl", ".csv", ".tsv", ".parquet", ".yaml", ".yml", ".md", ".txt", ".log", ".html", ".gz", ".zst", ".zip", ".bin", ".pt", ".pth"];

    private static readonly string[] s_adapterSettings =
    [
        "target_modules", "target_parameters", "exclude_modules", "layers_to_transform", "r", "rank_pattern", "lora_alpha", "alpha_pattern", "lora_dropout",
        "use_rslora", "use_dora", "bias", "lora_bias", "modules_to_save", "init_lora_weights",
        "trainable_token_indices", "token_indices", "alora_invocation_tokens", "layer_replication", "use_bdlora", "kasa_config", "ensure_weight_tying",
    ];

    internal static Command Create()
    {
        var command = new Command("inspect", "Describes a folder or file and its contents.") { s_path, s_tensors, s_json };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var path = arguments.GetValue(s_path)!;
        var isOnHub = ModelPath.IsOnHub(path);
        if (!isOnHub && !Path.Exists(path))
        {
            throw new FileNotFoundException($"{path}: no such file or folder.", path);
        }

        var found = isOnHub ? OnHub(path) : Describe(path);
        if (arguments.GetValue(s_json))
        {
            JsonLines.Write(found);
            return ExitCode.Success;
        }

        InspectText.Write(Console.Out, found, arguments.GetValue(s_tensors));
        return ExitCode.Success;
    }

    private static JsonObject OnHub(string name)
    {
        using var scratch = new ScratchFolder();
        var folder = ModelPath.Look(name, scratch.Within("model"), new DownloadConsole(), Signals.Stop);
        try
        {
            return Describe(folder);
        }
        catch (InvalidDataException e) when (folder.StartsWith(scratch.Within(""), StringComparison.Ordinal))
        {
            // Such as what bitsandbytes keeps among the values: the shapes of its weights.
            throw new InvalidDataException($"{e.Message.Replace(folder, name, StringComparison.Ordinal)} Only the headers of its weights were read; `owt download {name}` fetches all, and inspect reads them then.", e);
        }
    }

    private static JsonObject Describe(string path)
    {
        if (File.Exists(path))
        {
            return GgufFile.IsGguf(path) ? GgufInspection.Describe(path)
                : path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase) ? Safetensors(path)
                : !s_others.Contains(Path.GetExtension(path), StringComparer.OrdinalIgnoreCase) ? TokenizerFile(path)
                : throw new InvalidDataException($"{path}: unknown file type. inspect describes model, adapter and run folders, and safetensors, GGUF and tokenizer files; use `owt data preview` for rows and `owt validate` for a YAML file.");
        }

        if (File.Exists(Path.Combine(path, "manifest.json")) && File.Exists(Path.Combine(path, "metrics.jsonl")))
        {
            return RunFolder(path);
        }

        // For a checkpoint, its weights.
        path = AdapterFolder.IsAdapter(path) || ModelFolder.IsModel(path) ? path : AdapterFolder.Find(path) ?? ModelFolder.Find(path) ?? path;
        return AdapterFolder.IsAdapter(path) ? Adapter(path) : ModelFolder.IsModel(path) ? Model(path) : TokenizerFolder(path);
    }

    private static JsonObject TokenizerFolder(string path)
    {
        try
        {
            return TokenizerFile(path);
        }
        catch (FileNotFoundException e) when (e.FileName == path)
        {
            throw new InvalidDataException($"{path}: this folder contains neither a model (config.json) nor an adapter (adapter_config.json), a run (manifest.json) or a tokenizer.", e);
        }
    }

    private static JsonObject Model(string path)
    {
        var folder = ModelFolder.Open(path);
        var config = ModelLoader.ReadConfig(folder);
        using var weights = folder.OpenWeights();
        var description = new JsonObject
        {
            ["kind"] = "model",
            ["family"] = config.IsPart ? folder.Config["model_type"]!.DeepClone() : config.ModelType,
            ["parameters"] = weights.Tensors.Sum(static t => t.ElementCount),
            ["dtype"] = ModelLoader.StoredDType(weights).ToString().ToLowerInvariant(),
            ["quantization"] = weights.Quantization,
            ["bytes"] = weights.Quantization is null ? weights.Tensors.Sum(static t => t.ByteLength) : weights.ByteLength,
            ["hidden_size"] = config.HiddenSize,
            ["layers"] = config.LayerCount,
            ["heads"] = config.HeadCount,
            ["kv_heads"] = config.KeyValueHeadCount,
            ["head_dim"] = config.HeadDimension,
            ["intermediate_size"] = config.IntermediateSize,
            ["vocab_size"] = config.VocabularySize,
            ["max_positions"] = config.MaxPositions,
            ["tied_embeddings"] = config.TiedEmbeddings,
            ["tokenizer_files"] = Names(folder.TokenizerFiles),
            ["license_files"] = Names(folder.LicenseFiles),
        };
        if (config.Labels is { } labels)
        {
            description["labels"] = Names(labels.Names);
        }

        if (config.IsPart)
        {
            description["text_model"] = config.ModelType;
        }

        AddOtherParts(description, folder, weights);
        AddTokenizer(description, folder);
        AddTensors(description, weights.Tensors);
        return description;
    }

    // What a multimodal model has beside the text model: not loaded, and copied unchanged to exported models.
    private static void AddOtherParts(JsonObject description, ModelFolder folder, CheckpointWeights weights)
    {
        if (weights.OtherParts.Count == 0)
        {
            return;
        }

        var parts = new JsonObject();
        foreach (var part in weights.OtherParts.GroupBy(static t => PartOf(t.Name)).OrderBy(static p => p.Key, StringComparer.Ordinal))
        {
            parts[part.Key] = new JsonObject
            {
                ["tensors"] = part.Count(),
                ["parameters"] = part.Sum(static t => t.ElementCount),
                ["bytes"] = part.Sum(static t => t.ByteLength),
            };
        }

        description["not_loaded"] = parts;
        if (folder.ProcessorFiles.Count > 0)
        {
            description["processor_files"] = Names(folder.ProcessorFiles);
        }
    }

    // The first name, or the second after the "model" that newer versions put all parts into.
    private static string PartOf(string name) => name.Split('.') is ["model", var part, ..] ? part : name.Split('.')[0];

    private static void AddTokenizer(JsonObject description, ModelFolder folder)
    {
        if (!Tokenizer.IsIn(folder.FolderPath))
        {
            return;
        }

        try
        {
            Add(description, TokenizerFile(folder.FolderPath));
        }
        catch (InvalidDataException e)
        {
            // A model is described even if its tokenizer cannot be read.
            description["warnings"] = new JsonArray($"the tokenizer cannot be read: {e.Message}");
        }
    }

    /// <summary>Adds a tokenizer's description to that of its model.</summary>
    internal static void Add(JsonObject description, JsonObject tokenizer)
    {
        foreach (var (key, value) in tokenizer.Where(static p => p.Key != "kind"))
        {
            description[key] = value?.DeepClone();
        }
    }

    private static JsonObject Adapter(string path)
    {
        var folder = AdapterFolder.Open(path);
        using var weights = folder.OpenWeights();
        JsonNode? Setting(string key) => folder.Config[key] is { } value && value.ToJsonString() is not ("{}" or "[]" or "false") ? value.DeepClone() : null;
        var description = new JsonObject { ["kind"] = "adapter", ["type"] = Setting("peft_type"), ["base_model"] = Setting("base_model_name_or_path") };
        foreach (var key in s_adapterSettings)
        {
            description[key] = Setting(key);
        }

        var ranks = weights.Tensors.Where(static t => t.Name.EndsWith(".lora_A.weight", StringComparison.Ordinal) || t.Name.EndsWith(".lora_embedding_A", StringComparison.Ordinal)).ToList();
        description["ranks"] = string.Join(", ", ranks.GroupBy(static t => t.Shape[0]).OrderBy(static g => g.Key).Select(static g => $"{g.Key} ({g.Count()} modules)"));
        description["parameters"] = weights.Tensors.Sum(static t => t.Name.Contains(".base_layer.weight", StringComparison.Ordinal) ? 0 : t.ElementCount);
        description["bytes"] = weights.Tensors.Sum(static t => t.ByteLength);
        description["warnings"] = new JsonArray([.. AdapterLimits.Of(folder.Config, weights).Concat(ChangesNothing(folder)).Select(static w => (JsonNode)w)]);
        AddTensors(description, weights.Tensors);
        return description;
    }

    private static string[] ChangesNothing(AdapterFolder folder)
    {
        try
        {
            return AdapterEffect.IsNone(folder) ? [$"the adapter has no effect: {AdapterEffect.Reason}."] : [];
        }
        catch (InvalidDataException)
        {
            // Unsupported adapters are described as well.
            return [];
        }
    }

    private static JsonObject Safetensors(string path)
    {
        using var file = SafetensorsFile.Open(path);
        var description = new JsonObject
        {
            ["kind"] = "safetensors",
            ["parameters"] = file.Tensors.Sum(static t => t.ElementCount),
            ["bytes"] = file.Tensors.Sum(static t => t.ByteLength),
            ["metadata"] = file.Metadata is { } metadata ? string.Join(", ", metadata.Select(static p => $"{p.Key}={p.Value}")) : null,
        };
        AddTensors(description, file.Tensors);
        return description;
    }

    internal static JsonObject TokenizerFile(string path)
    {
        var tokenizer = Tokenizer.Load(path);
        JsonNode? Token(int? id) => id is { } known ? $"{tokenizer.IdToToken(known)} ({known})" : null;
        return new JsonObject
        {
            ["kind"] = "tokenizer",
            ["vocabulary"] = tokenizer.VocabularySize,
            ["bos_token"] = Token(tokenizer.BosToken),
            ["eos_token"] = Token(tokenizer.EosToken),
            ["pad_token"] = Token(tokenizer.PadToken),
            ["unk_token"] = Token(tokenizer.UnknownToken),
            ["chat_template"] = tokenizer.ChatTemplateText is not null,
            ["end_of_turn"] = Token(EndTokens.OfTemplate(tokenizer)),
        };
    }

    private static JsonObject RunFolder(string path)
    {
        var manifest = JsonNode.Parse(File.ReadAllText(Path.Combine(path, "manifest.json")))!.AsObject();
        var lines = File.ReadLines(Path.Combine(path, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).ToList();
        var last = lines.LastOrDefault(static l => l.ContainsKey("loss"));
        return new JsonObject
        {
            ["kind"] = "run",
            ["started"] = manifest["started"]?.DeepClone(),
            ["command"] = manifest["command"]?.DeepClone(),
            ["steps"] = last?["step"]?.DeepClone(),
            ["loss"] = last?["loss"]?.DeepClone(),
            ["eval_loss"] = lines.LastOrDefault(static l => l.ContainsKey("eval_loss"))?["eval_loss"]?.DeepClone(),
            ["checkpoints"] = Names(Directory.Exists(Path.Combine(path, "checkpoints")) ? Directory.GetDirectories(Path.Combine(path, "checkpoints")).Select(Path.GetFileName).Order()! : []),
            ["result"] = Directory.Exists(Path.Combine(path, "adapter")) ? "adapter" : Directory.Exists(Path.Combine(path, "model")) ? "model" : null,
        };
    }

    private static JsonArray Names(IEnumerable<string?> names) => new([.. names.Select(static n => (JsonNode?)n)]);

    private static void AddTensors(JsonObject description, IReadOnlyList<TensorEntry> tensors) =>
        AddTensors(description, tensors.Select(static t => (t.Name, t.DType.ToString(), (IReadOnlyList<long>)t.Shape, t.ElementCount, t.ByteLength)));

    /// <summary>Adds the list of tensors, and their number by dtype.</summary>
    internal static void AddTensors(JsonObject description, IEnumerable<(string Name, string DType, IReadOnlyList<long> Shape, long Values, long Bytes)> tensors)
    {
        var all = tensors.ToList();
        description["tensor_types"] = new JsonArray(
        [
            .. all.GroupBy(static t => t.DType).OrderByDescending(static g => g.Sum(static t => t.Bytes)).Select(static g => (JsonNode)new JsonObject
            {
                ["dtype"] = g.Key,
                ["tensors"] = g.Count(),
                ["parameters"] = g.Sum(static t => t.Values),
                ["bytes"] = g.Sum(static t => t.Bytes),
            }),
        ]);
        description["tensors"] = new JsonArray(
        [
            .. all.Select(static t => (JsonNode)new JsonObject
            {
                ["name"] = t.Name,
                ["dtype"] = t.DType,
                ["shape"] = new JsonArray([.. t.Shape.Select(static s => (JsonNode)s)]),
            }),
        ]);
    }
}
