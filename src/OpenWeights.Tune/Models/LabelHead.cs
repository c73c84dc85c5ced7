using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models;

/// <summary>
/// A head with one output for each label instead of one for each token: a classifier, or with a single label a reward model. As transformers'
/// AutoModelForSequenceClassification: a linear layer without bias, <c>score</c>, on the hidden state of the last token that is not padding.
/// </summary>
/// <param name="Names">Names of the labels, in order of the outputs.</param>
internal sealed record LabelHead(IReadOnlyList<string> Names)
{
    /// <summary>Name of the head's module.</summary>
    public const string Module = "score";

    /// <summary>Ending of the class name in config.json's architectures.</summary>
    public const string Architecture = "ForSequenceClassification";

    /// <summary>The padding token: a text is read up to its last other token; null where there is none.</summary>
    public int? PadId { get; init; }

    /// <summary>Whether the model's files have no such head yet, so that its weight is drawn.</summary>
    public bool IsNew { get; init; }

    /// <summary>Seed of the weight of a new head.</summary>
    public long Seed { get; init; }

    /// <summary>The name that transformers gives to a label without one.</summary>
    /// <param name="index">Index of the label.</param>
    public static string UsualName(int index) => string.Create(CultureInfo.InvariantCulture, $"LABEL_{index}");

    /// <summary>A head with labels that have no names.</summary>
    /// <param name="count">Number of labels.</param>
    public static LabelHead OfCount(int count) => new([.. Enumerable.Range(0, count).Select(UsualName)]);

    /// <summary>Whether the labels have the names of labels without one.</summary>
    internal bool HasUsualNames => Names.Select(static (name, i) => name == UsualName(i)).All(static same => same);

    /// <summary>The head that a config.json describes; null for a language model's.</summary>
    /// <param name="config">The config.json.</param>
    /// <param name="path">Its path, for messages.</param>
    /// <exception cref="InvalidDataException">The labels are not numbered from 0, or it is a classifier with several labels at once.</exception>
    public static LabelHead? Of(JsonObject config, string path)
    {
        ArgumentNullException.ThrowIfNull(config);
        if ((config["architectures"] as JsonArray)?.FirstOrDefault()?.ToString().EndsWith(Architecture, StringComparison.Ordinal) != true)
        {
            return null;
        }

        if (config["problem_type"]?.ToString() is { } problem and not "single_label_classification")
        {
            throw new InvalidDataException($"{path}: problem_type: {problem} is not supported; only a single class for each text is.");
        }

        // transformers leaves out the two names that are its default.
        var count = (config["id2label"] as JsonObject)?.Count ?? (config["num_labels"] is JsonValue number ? number.GetValue<int>() : 2);
        var names = new string[count];
        for (var i = 0; i < count; i++)
        {
            names[i] = config["id2label"] is not JsonObject named ? UsualName(i)
                : named[i.ToString(CultureInfo.InvariantCulture)]?.ToString() ?? throw new InvalidDataException($"{path}: id2label has {count} labels, and none for {i}; number them from 0.");
        }

        return new LabelHead(names) { PadId = Pad(config) ?? (FamilyTable.FindMultimodal(config) is { } whole ? Pad(whole.TextConfig(config)) : null) };
    }

    /// <summary>The padding token of a config.json; null for none.</summary>
    /// <param name="config">The config.json.</param>
    public static int? Pad(JsonObject config) => config?["pad_token_id"] is JsonValue value && value.TryGetValue<int>(out var id) && id >= 0 ? id : null;

    /// <summary>Index of a label as data names it, by its name or by its number; -1 for none.</summary>
    /// <param name="label">The label.</param>
    public int IndexOf(string label)
    {
        for (var i = 0; i < Names.Count; i++)
        {
            if (Names[i] == label)
            {
                return i;
            }
        }

        return int.TryParse(label, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number < Names.Count ? number : -1;
    }

    /// <summary>Index of the token whose hidden state is scored: the last that is not padding.</summary>
    /// <param name="ids">The tokens of a text.</param>
    public int LastToken(ReadOnlySpan<int> ids)
    {
        for (var i = ids.Length - 1; i > 0; i--)
        {
            if (ids[i] != PadId)
            {
                return i;
            }
        }

        return 0;
    }

    /// <summary>Writes the head into a config.json, as transformers does.</summary>
    /// <param name="config">The config.json, which is changed.</param>
    public void Write(JsonObject config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var architecture = (config["architectures"] as JsonArray)?.FirstOrDefault()?.ToString() ?? "ForCausalLM";

        // The classes without Text are those of the multimodal models.
        var stem = config["model_type"]?.ToString() switch
        {
            "gemma3_text" => "Gemma3Text",
            "qwen3_5_text" => "Qwen3_5Text",
            _ => architecture[..Math.Max(0, architecture.IndexOf("For", StringComparison.Ordinal))],
        };
        var whole = FamilyTable.FindMultimodal(config);
        config["architectures"] = new JsonArray(whole?.ClassifierName ?? (stem + Architecture));
        _ = config.Remove("num_labels");
        config["id2label"] = new JsonObject(Names.Select(static (name, i) => KeyValuePair.Create(i.ToString(CultureInfo.InvariantCulture), (JsonNode?)name)));
        config["label2id"] = new JsonObject(Names.Select(static (name, i) => KeyValuePair.Create(name, (JsonNode?)i)));
        config["pad_token_id"] = PadId;

        // The classes of multimodal models read it among the text model's settings.
        if (whole is not null && MultimodalFacts.TextKey(config) is { } key)
        {
            config[key]!["pad_token_id"] = PadId;
        }
    }
}
