using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Reads JSON lists given to commands.</summary>
internal static partial class JsonFile
{
    private static readonly JsonDocumentOptions s_strict = new() { MaxDepth = 512, AllowDuplicateProperties = false };

    /// <summary>
    /// Reads a list: a JSON array, an object on each line, or one thing alone. An unpaired surrogate (<c>"\ud83d"</c> alone), which JSON can spell but no text has, counts as U+FFFD, as it does once
    /// encoded as UTF-8.
    /// </summary>
    /// <param name="path">The file; - for stdin.</param>
    /// <param name="isItem">Whether an item is valid.</param>
    /// <param name="wanted">Description of the expected contents, for messages: <c>a JSON list of texts</c>.</param>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">The file contains something else.</exception>
    internal static IReadOnlyList<JsonNode> ReadList(string path, Func<JsonNode?, bool> isItem, string wanted)
    {
        var written = Text(ref path);
        JsonNode? document;
        try
        {
            var text = Escapes().Replace(written, static e => e.Groups["lone"].Success ? @"\ufffd" : e.Value);
            document = Lines(text) ?? JsonNode.Parse(text, documentOptions: s_strict);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: {wanted} is expected, but this is not valid JSON: {e.Message.Split(" Path:")[0].Split(" LineNumber:")[0].TrimEnd('.')}{(e is { LineNumber: { } line, BytePositionInLine: { } at } ? $" (line {line + 1}, byte {at + 1})" : "")}.", e);
        }

        // One thing is a list of one.
        var list = document as JsonArray ?? (isItem(document) ? new JsonArray(document) : null) ?? throw new InvalidDataException($"{path}: {wanted} is wanted.");
        for (var i = 0; i < list.Count; i++)
        {
            if (!isItem(list[i]))
            {
                throw new InvalidDataException($"{path}, item {i + 1}: {wanted} is expected.");
            }
        }

        return [.. list.Select(static item => item!)];
    }

    /// <summary>Reads the messages of a conversation.</summary>
    /// <param name="path">The file; - for stdin.</param>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">The file contains something else.</exception>
    internal static JsonArray ReadMessages(string path) =>
        new([.. ReadList(path, static item => item is JsonObject, "a JSON list of messages, such as [{\"role\": \"user\", \"content\": \"Hello\"}],").Select(static m => m.DeepClone())]);

    // Several objects, each on a line of its own, are a list too; null for all else.
    private static JsonArray? Lines(string text)
    {
        var lines = text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return lines.Length > 1 && lines.All(static l => l is ['{', .., '}']) ? new JsonArray([.. lines.Select(static l => JsonNode.Parse(l, documentOptions: s_strict))]) : null;
    }

    // Sets the path to the name used in messages.
    private static string Text(ref string path)
    {
        if (path == InputText.Stdin)
        {
            path = "stdin";
            return InputText.All;
        }

        return File.Exists(path) ? File.ReadAllText(path) : throw new FileNotFoundException($"{path}: no such file.", path);
    }

    // Every escape in turn, so that an escaped backslash does not start another escape.
    [GeneratedRegex(@"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", RegexOptions.Singleline)]
    private static partial Regex Escapes();
}
