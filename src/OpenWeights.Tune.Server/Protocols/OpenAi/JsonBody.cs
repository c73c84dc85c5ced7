using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Unicode;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>JSON of requests and answers.</summary>
internal static class JsonBody
{
    internal const string ContentType = "application/json; charset=utf-8";

    private static readonly JsonDocumentOptions s_options = new() { AllowDuplicateProperties = false };

    /// <summary>Reads a request's body in OpenAI's fields.</summary>
    /// <exception cref="RequestException">It is no JSON object, or a value has a wrong type.</exception>
    internal static Task<T> ReadAsync<T>(HttpContext context)
        where T : class => ReadAsync(context, OpenAiJson.Of<T>());

    /// <summary>Reads a request's body.</summary>
    /// <exception cref="RequestException">It is no JSON object, or a value has a wrong type.</exception>
    internal static async Task<T> ReadAsync<T>(HttpContext context, JsonTypeInfo<T> type)
        where T : class
    {
        using var document = await ParseAsync(context).ConfigureAwait(false);
        RequireText(document.RootElement, "");
        if (document.RootElement.ValueKind != JsonValueKind.Object)
        {
            throw new RequestException("The request's body must be a JSON object.", null);
        }

        try
        {
            return document.Deserialize(type)!;
        }
        catch (JsonException e)
        {
            // The path says where the value stands: $.messages[0].
            var place = e.Path is { Length: > 2 } path ? path[2..] : null;
            throw new RequestException($"Invalid type for '{place}'.", place);
        }
    }

    internal static Task WriteAsync<T>(HttpContext context, T answer) => WriteAsync(context, answer, OpenAiJson.Of<T>());

    internal static async Task WriteAsync<T>(HttpContext context, T answer, JsonTypeInfo<T> type)
    {
        context.Response.ContentType = ContentType;
        var bytes = JsonSerializer.SerializeToUtf8Bytes(answer, type);
        context.Response.ContentLength = bytes.Length;
        await context.Response.Body.WriteAsync(bytes, context.RequestAborted).ConfigureAwait(false);
    }

    // JSON can escape halves of characters, and bytes that are no UTF-8 are read as they are; neither is text.
    private static void RequireText(JsonElement value, string place)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.String when !IsText(value):
                throw new RequestException($"Invalid value for '{place}': its text is not valid Unicode (half of a character, or bytes that are not UTF-8).", place);
            case JsonValueKind.Array:
                var index = 0;
                foreach (var element in value.EnumerateArray())
                {
                    if (element.ValueKind is JsonValueKind.String or JsonValueKind.Array or JsonValueKind.Object)
                    {
                        RequireText(element, $"{place}[{index}]");
                    }

                    index++;
                }

                break;
            case JsonValueKind.Object:
                foreach (var property in value.EnumerateObject())
                {
                    RequireText(property.Value, place.Length == 0 ? NameOf(property, place) : $"{place}.{NameOf(property, place)}");
                }

                break;
        }
    }

    // Only escapes need the text itself.
    private static bool IsText(JsonElement value)
    {
        var bytes = JsonMarshal.GetRawUtf8Value(value);
        if (bytes.IndexOf("\\u"u8) < 0)
        {
            return Utf8.IsValid(bytes);
        }

        try
        {
            _ = value.GetString();
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    private static string NameOf(JsonProperty property, string place)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException)
        {
            throw new RequestException($"A name in {(place.Length == 0 ? "the request" : $"'{place}'")} is not valid Unicode.", place.Length == 0 ? null : place);
        }
    }

    private static async Task<JsonDocument> ParseAsync(HttpContext context)
    {
        try
        {
            return await JsonDocument.ParseAsync(context.Request.Body, s_options, context.RequestAborted).ConfigureAwait(false);
        }
        catch (JsonException e)
        {
            throw new RequestException($"The request's body is not valid JSON{(e.LineNumber is { } line ? $" at line {line + 1}, byte {e.BytePositionInLine + 1}" : "")}.", null);
        }
        catch (InvalidOperationException)
        {
            // Names are compared with each other while they are read.
            throw new RequestException("A name in the request is not valid Unicode (half of a character, or bytes that are not UTF-8).", null);
        }
    }
}
