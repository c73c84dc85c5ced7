using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Text.Unicode;

namespace OpenWeights.Formats.Json;

/// <summary>Reads the JSON files of a model folder (config.json and its kin) with errors that name file, line and column.</summary>
internal static partial class JsonFile
{
    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false };

    /// <summary>Reads a file that holds one JSON object. Keys keep the file's order, numbers their spelling; a UTF-8 byte order
    /// mark is skipped.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The object; changing it changes nothing on disk.</returns>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">The file is not UTF-8, not valid JSON, names a key twice, or holds something other
    /// than an object.</exception>
    public static JsonObject ReadObject(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"{path} does not exist", path);
        }

        return ParseObject(File.ReadAllBytes(path), path);
    }

    /// <summary>As <see cref="ReadObject"/>, from bytes in memory; <paramref name="path"/> is only what errors call them.</summary>
    internal static JsonObject ParseObject(ReadOnlySpan<byte> bytes, string path)
    {
        var text = bytes.StartsWith(Encoding.UTF8.Preamble) ? bytes[3..] : bytes;
        if (!Utf8.IsValid(text))
        {
            throw new InvalidDataException($"{path} is not valid UTF-8 text; save it as UTF-8 or download it again");
        }

        text = WithNamedNumbers(text);
        try
        {
            CheckStrings(text, path);
            return JsonNode.Parse(text, documentOptions: Strict) as JsonObject
                ?? throw new InvalidDataException(
                    $"{path} does not hold a JSON object ({{...}}); it is not the file its name says: download it again");
        }
        catch (JsonException error)
        {
            throw new InvalidDataException($"{path}{Place(text, error)}: {Reason(error)}; correct it or download the file again", error);
        }
    }

    /// <summary>The text of an object without the form in which transformers 5 writes Infinity, as Python and transformers 4 write it.</summary>
    /// <param name="text">JSON text.</param>
    public static string WithPlainInfinity(string text) => InfinityObject().Replace(text, "$1");

    [GeneratedRegex("""\{\s*"__float__"\s*:\s*"(-?Infinity)"\s*\}""")]
    private static partial Regex InfinityObject();

    /// <summary>Python writes Infinity, which JSON does not have; transformers 5 writes {"__float__": "Infinity"}, which it becomes here.</summary>
    private static ReadOnlySpan<byte> WithNamedNumbers(ReadOnlySpan<byte> text)
    {
        if (text.IndexOf("Infinity"u8) < 0)
        {
            return text;
        }

        var result = new List<byte>(text.Length + 64);
        var isString = false;
        for (var i = 0; i < text.Length; i++)
        {
            if (!isString && Named(text[i..]) is { Length: > 0 } name)
            {
                result.AddRange("{\"__float__\": \""u8);
                result.AddRange(name);
                result.AddRange("\"}"u8);
                i += name.Length - 1;
                continue;
            }

            if (isString && text[i] == (byte)'\\' && i + 1 < text.Length)
            {
                result.Add(text[i++]);
            }
            else if (text[i] == (byte)'"')
            {
                isString = !isString;
            }

            result.Add(text[i]);
        }

        return result.ToArray();
    }

    private static ReadOnlySpan<byte> Named(ReadOnlySpan<byte> text) =>
        text.StartsWith("Infinity"u8) ? text[..8] : text.StartsWith("-Infinity"u8) ? text[..9] : [];

    /// <summary>An escaped half of a character (<c>\ud800</c> alone) passes as JSON, but no string can hold it: it is found here,
    /// not at some later access.</summary>
    private static void CheckStrings(ReadOnlySpan<byte> text, string path)
    {
        var reader = new Utf8JsonReader(text);
        while (reader.Read())
        {
            var isString = reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName;
            if (isString && reader.ValueIsEscaped && !IsWholeString(ref reader))
            {
                var (line, column) = LineAndColumn(text, (int)reader.TokenStartIndex);
                throw new InvalidDataException($"{path}, line {line}, column {column}: the string has half of a surrogate pair "
                    + "(\\ud800 to \\udfff alone); correct it or download the file again");
            }
        }
    }

    private static bool IsWholeString(ref Utf8JsonReader reader)
    {
        try
        {
            _ = reader.GetString();
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    private static string Place(ReadOnlySpan<byte> text, JsonException error)
    {
        if (error is not { LineNumber: { } line, BytePositionInLine: { } position })
        {
            return "";
        }

        var start = 0;
        for (var i = 0L; i < line; i++)
        {
            start += text[start..].IndexOf((byte)'\n') + 1;
        }

        var (shownLine, column) = LineAndColumn(text, (int)Math.Min(start + position, text.Length));
        return $", line {shownLine}, column {column}";
    }

    /// <summary>Both counted from 1; the column counts characters, not bytes.</summary>
    private static (int Line, int Column) LineAndColumn(ReadOnlySpan<byte> text, int at)
    {
        var before = text[..at];
        var line = before.Count((byte)'\n') + 1;
        var lineStart = before.LastIndexOf((byte)'\n') + 1;
        return (line, Encoding.UTF8.GetCharCount(before[lineStart..]) + 1);
    }

    /// <summary>The reader's message without the position that it appends.</summary>
    private static string Reason(JsonException error)
    {
        var message = error.Message;
        foreach (var mark in (string[])[" Path: ", " LineNumber: "])
        {
            var at = message.IndexOf(mark, StringComparison.Ordinal);
            message = at < 0 ? message : message[..at];
        }

        return message.TrimEnd('.', ' ');
    }
}
