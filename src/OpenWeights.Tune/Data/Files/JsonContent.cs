using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row that is a JSON object.</summary>
/// <param name="utf8">Its bytes.</param>
/// <param name="what">Name of the row for messages: this line, this row.</param>
internal sealed class JsonContent(byte[] utf8, string what) : IRawContent
{
    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);
    private static readonly JsonDocumentOptions s_options = new() { AllowDuplicateProperties = false };

    public int Size => utf8.Length;

    public JsonObject Parse()
    {
        JsonNode? node;
        try
        {
            // The JSON parser accepts invalid UTF-8, which would cause errors much later.
            _ = s_strict.GetCharCount(utf8);
            var bytes = PythonNumbers.ToNull(utf8);
            RequireWholeTexts(bytes);
            node = JsonNode.Parse(bytes, documentOptions: s_options);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{what} is not valid JSON: {Reason(e)}{Hint()}", e);
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"{what} is not valid UTF-8 (byte {e.Index + 1}); save the file as UTF-8.", e);
        }

        return node as JsonObject ?? throw new InvalidDataException("a row must be an object such as {\"prompt\": ..., \"completion\": ...}.");
    }

    // An escaped unpaired surrogate is valid JSON but not valid text: it is reported here, not where the text is first used.
    private void RequireWholeTexts(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IndexOf("\\ud"u8) < 0 && bytes.IndexOf("\\uD"u8) < 0)
        {
            return;
        }

        var reader = new Utf8JsonReader(bytes);
        while (reader.Read())
        {
            if (reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName && reader.ValueIsEscaped && !IsWhole(ref reader))
            {
                throw new InvalidDataException($"{what} contains an unpaired surrogate (\\ud800 to \\udfff, byte {reader.TokenStartIndex + 1}); write the complete character, or remove it.");
            }
        }
    }

    private static bool IsWhole(ref Utf8JsonReader reader)
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

    // What people who write JSON lines by hand or from Python most often slip on.
    private string Hint()
    {
        var text = utf8.AsSpan().Trim(" \t\r\n"u8);
        return text.StartsWith("{'"u8) ? " Keys and texts are quoted with \", not '; in Python json.dumps writes them."
            : text.EndsWith("},"u8) ? " Remove the comma at the end: a file of JSON lines has none between its rows."
            : text is [(byte)'{'] || (text.StartsWith("{"u8) && !text.EndsWith("}"u8)) ? " An object must be complete on its line; write each row on one line, or all rows as a list in brackets to a .json file."
            : "";
    }

    private static string Reason(JsonException e)
    {
        var sentence = e.Message.Split(" Path:")[0].Split(" LineNumber:")[0].TrimEnd('.');
        return e.BytePositionInLine is { } at ? $"{sentence} (byte {at + 1})." : sentence + ".";
    }
}
