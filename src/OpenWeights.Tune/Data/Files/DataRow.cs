using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row of a data file, with its position.</summary>
/// <param name="Json">The row.</param>
/// <param name="Place">The file and line (or, in a JSON array, the row's number).</param>
internal sealed record DataRow(JsonObject Json, string Place)
{
    // Common names in data sets.
    private static readonly string[] s_systems = ["system", "system_prompt"];

    /// <summary>An error about the row.</summary>
    public InvalidDataException Error(string problem) => new($"{Place}: {problem}");

    /// <summary>A text of the row.</summary>
    /// <exception cref="InvalidDataException">The field is missing or not a text.</exception>
    public string Text(string key) => Json[key] is JsonValue value && value.GetValueKind() == JsonValueKind.String
        ? value.GetValue<string>()
        : throw Error(Json.ContainsKey(key) ? $"\"{key}\" must be a string." : $"\"{key}\" is missing.");

    /// <summary>The row's "system" message, which comes first; null if there is none.</summary>
    /// <exception cref="InvalidDataException">It is not a text.</exception>
    internal string? System => Array.Find(s_systems, Has) is { } key && Text(key) is { } text && !string.IsNullOrWhiteSpace(text) ? text : null;

    /// <summary>Whether the row has a field.</summary>
    public bool Has(string key) => Json[key] is not null;

    /// <summary>Parses JSON inside a text field, as in tables and some data sets.</summary>
    /// <param name="what">Name of the text for messages.</param>
    /// <param name="text">The text.</param>
    /// <exception cref="InvalidDataException">The text is not JSON.</exception>
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

    /// <summary>A list of integers of the row.</summary>
    /// <exception cref="InvalidDataException">The field is missing or not a list of integers.</exception>
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
                throw Error($"\"{key}\" contains {array[i]?.ToJsonString() ?? "null"} at index {i}, which is not a whole number.");
            }
        }

        return numbers;
    }
}
