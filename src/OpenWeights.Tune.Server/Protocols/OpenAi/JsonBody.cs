using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>JSON of requests and answers.</summary>
internal static class JsonBody
{
    internal const string ContentType = "application/json; charset=utf-8";

    /// <summary>Reads a request's body.</summary>
    /// <exception cref="RequestException">It is not a JSON object.</exception>
    /// <exception cref="JsonException">It is not valid JSON, or a value has a wrong type.</exception>
    internal static async Task<T> ReadAsync<T>(HttpContext context)
        where T : class =>
        await JsonSerializer.DeserializeAsync(context.Request.Body, OpenAiJson.Of<T>(), context.RequestAborted).ConfigureAwait(false)
            ?? throw new RequestException("The request's body must be a JSON object.", null);

    internal static async Task WriteAsync<T>(HttpContext context, T answer)
    {
        context.Response.ContentType = ContentType;
        var bytes = JsonSerializer.SerializeToUtf8Bytes(answer, OpenAiJson.Of<T>());
        context.Response.ContentLength = bytes.Length;
        await context.Response.Body.WriteAsync(bytes, context.RequestAborted).ConfigureAwait(false);
    }
}
