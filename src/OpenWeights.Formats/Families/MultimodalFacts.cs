using System.Text.Json.Nodes;

namespace OpenWeights.Formats.Families;

/// <summary>What is known of multimodal models of one kind: where their text model is. The other parts are never read.</summary>
internal sealed record MultimodalFacts
{
    private static readonly string[] s_textKeys = ["text_config", "language_config", "llm_config"];

    /// <summary>The model_type of its config.json.</summary>
    public required string ModelType { get; init; }

    /// <summary>The model_type of its text model where the config names none.</summary>
    public required string TextType { get; init; }

    /// <summary>The name of the text model's decoder among the reference implementation's modules.</summary>
    public string Stack { get; init; } = "model.language_model";

    /// <summary>The name of the output head.</summary>
    public string Head { get; init; } = "lm_head";

    /// <summary>The class with a head of labels (<c>score</c>) that transformers' AutoModelForSequenceClassification has for it; null for none.</summary>
    public string? ClassifierName { get; init; }

    /// <summary>Default of tie_word_embeddings.</summary>
    public bool TiedEmbeddings { get; init; }

    /// <summary>Names in older checkpoints; null where there are no others.</summary>
    public CheckpointLayout? Layout { get; init; }

    /// <summary>Defaults of sizes that configs may leave out.</summary>
    public IReadOnlyDictionary<string, int> TextDefaults { get; init; } = new Dictionary<string, int>();

    /// <summary>The key of a config under which its text model's settings are; null where they are in the config itself.</summary>
    /// <param name="config">The config.json.</param>
    public static string? TextKey(JsonObject config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Array.Find(s_textKeys, key => config[key] is JsonObject);
    }

    /// <summary>Whether a tensor is the text model's, and not that of a vision tower, a projector or the like.</summary>
    /// <param name="name">Its name among the modules.</param>
    public bool IsText(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return name.StartsWith($"{Stack}.", StringComparison.Ordinal) || name.StartsWith($"{Head}.", StringComparison.Ordinal) || (ClassifierName is not null && name == "score.weight");
    }

    /// <summary>The config.json that the text model alone would have: its settings, and whether the embeddings are tied.</summary>
    /// <param name="config">The whole model's config.json.</param>
    public JsonObject TextConfig(JsonObject config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var key = TextKey(config);
        var text = (key is null ? config : config[key]!).DeepClone().AsObject();
        if (key is null)
        {
            foreach (var other in text.Select(static p => p.Key).Where(IsOther).ToList())
            {
                _ = text.Remove(other);
            }
        }

        foreach (var (setting, size) in TextDefaults)
        {
            text[setting] ??= size;
        }

        text["model_type"] = key is null || text["model_type"] is null ? TextType : text["model_type"]!.DeepClone();
        text["tie_word_embeddings"] = (config["tie_word_embeddings"] ?? text["tie_word_embeddings"])?.DeepClone() ?? TiedEmbeddings;
        return text;
    }

    /// <summary>Whether a setting of a whole model's config says nothing about its text model.</summary>
    /// <param name="key">The setting.</param>
    public static bool IsOther(string key)
    {
        ArgumentNullException.ThrowIfNull(key);
        string[] starts = ["vision_", "image_", "video_", "audio_", "projector_", "multimodal_", "mm_", "spatial_", "vit_"];
        string[] ends = ["_token_index", "_token_id", "_token_ids", "_soft_tokens_per_image"];
        return Array.Exists(starts, start => key.StartsWith(start, StringComparison.Ordinal)) || Array.Exists(ends, end => key.EndsWith(end, StringComparison.Ordinal)) || s_textKeys.Contains(key);
    }
}
