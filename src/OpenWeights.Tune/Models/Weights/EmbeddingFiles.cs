using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>
/// The files that make a model's folder, or an adapter's, one of sentence-transformers: modules.json names the steps (transformer, pooling, normalising),
/// and each has its settings in a file of its own.
/// </summary>
internal static class EmbeddingFiles
{
    /// <summary>The setting of config.json that makes transformers' attention look both ways.</summary>
    internal const string CausalKey = "is_causal";

    private const string Modules = "modules.json";
    private const string Steps = "sentence_transformers.models.";
    private const string PoolingFolder = "1_Pooling";
    private const string NormalizeFolder = "2_Normalize";
    private const string Transformer = "sentence_bert_config.json";
    private const string Whole = "config_sentence_transformers.json";

    /// <summary>The settings in a folder; null if it is not one of sentence-transformers.</summary>
    /// <param name="folder">A model's or an adapter's folder.</param>
    /// <exception cref="InvalidDataException">A file is invalid, or the folder does something that is not supported.</exception>
    public static EmbeddingSettings? Of(string folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        var file = Path.Combine(folder, Modules);
        if (!File.Exists(file))
        {
            return null;
        }

        var steps = (JsonNode.Parse(File.ReadAllText(file)) as JsonArray)?.Select(static s => s?["type"]?.ToString().Split('.')[^1] ?? "").ToList() ?? [];
        if (steps is not ["Transformer", "Pooling"] and not ["Transformer", "Pooling", "Normalize"])
        {
            throw new InvalidDataException($"{file}: the steps {string.Join(", ", steps)} are not supported; supported are Transformer, Pooling and Normalize.");
        }

        var pooling = JsonFile.ReadObject(Path.Combine(folder, PoolingFolder, "config.json"));
        bool Is(string mode) => pooling[$"pooling_mode_{mode}"] is JsonValue value && value.GetValueKind() == JsonValueKind.True;
        var own = Optional(folder, Transformer);
        var prompts = Optional(folder, Whole)?["prompts"];
        return new EmbeddingSettings
        {
            Pooling = Is("lasttoken") ? EmbeddingPooling.Last : Is("mean_tokens") ? EmbeddingPooling.Mean
                : throw new InvalidDataException($"{Path.Combine(folder, PoolingFolder, "config.json")}: only pooling_mode_lasttoken and pooling_mode_mean_tokens are supported."),
            IsBidirectional = IsFalse(own?["config_args"]?[CausalKey]) || IsFalse(Optional(folder, "config.json")?[CausalKey]),
            QueryPrompt = prompts?["query"]?.ToString() ?? "",
            DocumentPrompt = prompts?["document"]?.ToString() ?? "",
            MaxLength = own?["max_seq_length"] is JsonValue length && length.TryGetValue<int>(out var tokens) ? tokens : null,
        };
    }

    /// <summary>The same; null also for a folder that does something that is not supported, for uses other than embedding.</summary>
    internal static EmbeddingSettings? Find(string folder)
    {
        try
        {
            return Of(folder);
        }
        catch (Exception e) when (e is InvalidDataException or IOException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Whether a config.json's attention looks both ways.</summary>
    internal static bool IsBidirectional(JsonObject config) => IsFalse(config[CausalKey]);

    /// <summary>Writes the files.</summary>
    /// <param name="folder">The folder; created if missing.</param>
    /// <param name="settings">The settings.</param>
    /// <param name="width">Length of the vectors.</param>
    public static void Write(string folder, EmbeddingSettings settings, int width)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(settings);
        _ = Directory.CreateDirectory(Path.Combine(folder, PoolingFolder));
        _ = Directory.CreateDirectory(Path.Combine(folder, NormalizeFolder));
        static JsonObject Step(int index, string path, string type) => new() { ["idx"] = index, ["name"] = $"{index}", ["path"] = path, ["type"] = Steps + type };
        Put(folder, Modules, new JsonArray(Step(0, "", "Transformer"), Step(1, PoolingFolder, "Pooling"), Step(2, NormalizeFolder, "Normalize")));
        Put(folder, Path.Combine(PoolingFolder, "config.json"), new JsonObject
        {
            ["word_embedding_dimension"] = width,
            ["pooling_mode_cls_token"] = false,
            ["pooling_mode_mean_tokens"] = settings.Pooling == EmbeddingPooling.Mean,
            ["pooling_mode_max_tokens"] = false,
            ["pooling_mode_mean_sqrt_len_tokens"] = false,
            ["pooling_mode_weightedmean_tokens"] = false,
            ["pooling_mode_lasttoken"] = settings.Pooling == EmbeddingPooling.Last,
            ["include_prompt"] = true,
        });
        var transformer = new JsonObject { ["max_seq_length"] = settings.MaxLength, ["do_lower_case"] = false };
        if (settings.IsBidirectional)
        {
            transformer["config_args"] = new JsonObject { [CausalKey] = false };
        }

        Put(folder, Transformer, transformer);
        Put(folder, Whole, new JsonObject
        {
            ["model_type"] = "SentenceTransformer",
            ["__version__"] = new JsonObject { ["sentence_transformers"] = "5.0.0" },
            ["prompts"] = new JsonObject { ["query"] = settings.QueryPrompt, ["document"] = settings.DocumentPrompt },
            ["default_prompt_name"] = null,
            ["similarity_fn_name"] = "cosine",
        });
    }

    private static JsonObject? Optional(string folder, string name) => Path.Combine(folder, name) is var path && File.Exists(path) ? JsonFile.ReadObject(path) : null;

    private static bool IsFalse(JsonNode? node) => node is JsonValue value && value.GetValueKind() == JsonValueKind.False;

    private static void Put(string folder, string name, JsonNode json) =>
        AtomicFile.WriteText(Path.Combine(folder, name), json.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n");
}
