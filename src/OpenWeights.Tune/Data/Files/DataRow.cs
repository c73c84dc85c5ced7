using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row of a data file as it was read, with where it stands.</summary>
/// <param name="Json">The row.</param>
/// <param name="Place">The file and the line (or, in a JSON array, the row's number).</param>
public sealed record DataRow(JsonObject Json, string Place)
{
    // What data sets call it.
    private static readonly string[] s_systems = ["system", "system_prompt"];

    /// <summary>An error about the row.</summary>
    public InvalidDataException Error(string problem) => new($"{Place}: {problem}");

    /// <summary>A text of the row.</summary>
    /// <exception cref="InvalidDataException">It is missing or no text.</exception>
    public string Text(string key) => Json[key] is JsonValue value && value.GetValueKind() == JsonValueKind.String
        ? value.GetValue<string>()
        : throw Error(Json.ContainsKey(key) ? $"\"{key}\" must be a text." : $"\"{key}\" is missing.");

    /// <summary>What the row's "system" says, which stands before everything; null where it says nothing.</summary>
    /// <exception cref="InvalidDataException">It is no text.</exception>
    internal string? System => Array.Find(s_systems, Has) is { } key && Text(key) is { } text && !string.IsNullOrWhiteSpace(text) ? text : null;

    /// <summary>Whether the row has something under a name.</summary>
    public bool Has(string key) => Json[key] is not null;

    /// <summary>JSON that stands in a text of the row, as tables and some data sets have it.</summary>
    /// <param name="what">What messages call the text.</param>
    /// <param name="text">The text.</param>
    /// <exception cref="InvalidDataException">It is no JSON.</exception>
    public JsonNode? Nested(string what, string text)
    {
        try
        {
            return JsonNode.Parse(text, documentOptions: new JsonDocumentOptions { AllowDuplicateProperties = false });
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{Place}: {what} must be JSON, and is '{(text.Length > 60 ? text[..60] + "..." : text)}'.", e);
        }
    }

    /// <summary>Whole numbers of the row.</summary>
    /// <exception cref="InvalidDataException">They are missing or no list of whole numbers.</exception>
    public int[] Ints(string key)
    {
        var node = Json[key] is JsonValue text && text.GetValueKind() == JsonValueKind.String ? Nested($"\"{key}\"", text.GetValue<string>()) : Json[key];
        if (node is not JsonArray array)
        {
            throw Error(Json.ContainsKey(key) ? $"\"{key}\" must be a list of whole numbers." : $"\"{key}\" is missing.");
        }

        var numbers = new int[array.Count];
        for (var i = 0; i < numbers.Length; i++)
        {
            if (array[i] is not JsonValue value || !value.TryGetValue(out numbers[i]))
            {
                throw Error($"\"{key}\" holds {array[i]?.ToJsonString() ?? "null"} at place {i}, which is not a whole number.");
            }
        }

        return numbers;
    }
}
