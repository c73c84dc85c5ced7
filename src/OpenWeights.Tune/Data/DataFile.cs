using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data;

/// <summary>Reads rows of a JSON lines file, or of a JSON array of objects.</summary>
public static class DataFile
{
    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The rows, one after another.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">A row cannot be read; the message names the line.</exception>
    public static IEnumerable<DataRow> Read(string path)
    {
        if (!File.Exists(path))
        {
            throw new FileNotFoundException(Directory.Exists(path) ? $"{path} is a folder; name a data file in it." : $"{path}: there is no such data file.", path);
        }

        return StartsAsArray(path) ? ReadArray(path) : ReadLines(path);
    }

    private static bool StartsAsArray(string path)
    {
        using var reader = new StreamReader(path);
        int c;
        do
        {
            c = reader.Read();
        }
        while (c >= 0 && char.IsWhiteSpace((char)c));
        return c == '[';
    }

    private static IEnumerable<DataRow> ReadLines(string path)
    {
        using var reader = new StreamReader(path, s_strict);
        for (var line = 1; ; line++)
        {
            var place = $"{path}:{line}";
            if (NextLine(reader, place) is not { } text)
            {
                yield break;
            }

            if (!string.IsNullOrWhiteSpace(text))
            {
                yield return new DataRow(Parse(text, place), place);
            }
        }
    }

    private static string? NextLine(StreamReader reader, string place)
    {
        try
        {
            return reader.ReadLine();
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"{place}: at this line or shortly behind it the file is not valid UTF-8; save it as UTF-8.", e);
        }
    }

    private static JsonObject Parse(string text, string place)
    {
        JsonNode? node;
        try
        {
            node = JsonNode.Parse(text);

            // Parsing is lazy about repeated names; asking counts them.
            _ = (node as JsonObject)?.Count;
        }
        catch (Exception e) when (e is JsonException or ArgumentException)
        {
            throw new InvalidDataException($"{place}: this line is no valid JSON: {Reason(e)}", e);
        }

        return node as JsonObject ?? throw new InvalidDataException($"{place}: a row must be an object such as {{\"prompt\": ..., \"completion\": ...}}.");
    }

    private static IEnumerable<DataRow> ReadArray(string path)
    {
        JsonArray rows;
        try
        {
            rows = (JsonArray)JsonNode.Parse(File.ReadAllText(path, s_strict))!;
        }
        catch (Exception e) when (e is JsonException or DecoderFallbackException)
        {
            throw new InvalidDataException($"{path}: the file starts as a JSON array and is no valid one: {Reason(e)}", e);
        }

        for (var i = 0; i < rows.Count; i++)
        {
            var place = $"{path}, row {i + 1}";
            yield return new DataRow(rows[i] as JsonObject ?? throw new InvalidDataException($"{place}: a row must be an object."), place);
        }
    }

    private static string Reason(Exception e) => e.Message.Split(" Path:")[0].Split(" LineNumber:")[0].TrimEnd('.') + ".";
}
