using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Reads the JSON lists that commands are given.</summary>
internal static partial class JsonFile
{
    /// <summary>
    /// Reads a list. An unpaired surrogate (<c>"\ud83d"</c> alone), which JSON can spell but no text has, counts as U+FFFD, as it does once
    /// a text is written as UTF-8.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="isItem">What each item has to be.</param>
    /// <param name="wanted">What the file has to hold, for messages: <c>a JSON list of texts</c>.</param>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">It holds something else.</exception>
    internal static IReadOnlyList<JsonNode> ReadList(string path, Func<JsonNode?, bool> isItem, string wanted)
    {
        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"{path}: there is no such file.", path);
        }

        JsonNode? document;
        try
        {
            var text = Escapes().Replace(File.ReadAllText(path), static e => e.Groups["lone"].Success ? @"\ufffd" : e.Value);
            document = JsonNode.Parse(text, documentOptions: new JsonDocumentOptions { MaxDepth = 512, AllowDuplicateProperties = false });
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: {wanted} is wanted, but this is not valid JSON: {e.Message.Split(" Path:")[0].Split(" LineNumber:")[0].TrimEnd('.')}{(e is { LineNumber: { } line, BytePositionInLine: { } at } ? $" (line {line + 1}, byte {at + 1})" : "")}.", e);
        }

        var list = document as JsonArray ?? throw new InvalidDataException($"{path}: {wanted} is wanted.");
        for (var i = 0; i < list.Count; i++)
        {
            if (!isItem(list[i]))
            {
                throw new InvalidDataException($"{path}, item {i + 1}: {wanted} is wanted.");
            }
        }

        return [.. list.Select(static item => item!)];
    }

    // Every escape in turn, so that a backslash that is itself escaped begins none.
    [GeneratedRegex(@"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", RegexOptions.Singleline)]
    private static partial Regex Escapes();
}
