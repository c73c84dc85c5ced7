using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row that is a JSON object.</summary>
/// <param name="utf8">Its bytes.</param>
/// <param name="what">What messages call it: this line, this row.</param>
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
            // A parser of JSON lets bytes through that are no text; they would fail far from here.
            _ = s_strict.GetCharCount(utf8);
            node = JsonNode.Parse(utf8, documentOptions: s_options);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{what} is no valid JSON: {Reason(e)}", e);
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"{what} is not valid UTF-8 (byte {e.Index + 1}); save the file as UTF-8.", e);
        }

        return node as JsonObject ?? throw new InvalidDataException("a row must be an object such as {\"prompt\": ..., \"completion\": ...}.");
    }

    private static string Reason(JsonException e)
    {
        var sentence = e.Message.Split(" Path:")[0].Split(" LineNumber:")[0].TrimEnd('.');
        return e.BytePositionInLine is { } at ? $"{sentence} (byte {at + 1})." : sentence + ".";
    }
}
