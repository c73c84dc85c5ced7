using System.Buffers;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace OpenWeights.Tune.Server.Protocols;

/// <summary>Server-sent events of an answer.</summary>
internal sealed class EventStream
{
    private static readonly TimeSpan s_silence = TimeSpan.FromSeconds(15);

    private readonly HttpContext _context;

    private EventStream(HttpContext context) => _context = context;

    /// <summary>Begins the answer: from here on, errors are events too.</summary>
    internal static EventStream Begin(HttpContext context)
    {
        context.Response.ContentType = "text/event-stream";
        context.Response.Headers.CacheControl = "no-cache";
        context.Response.Headers["X-Accel-Buffering"] = "no";
        context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        return new EventStream(context);
    }

    /// <summary>The stream of an answer that has begun.</summary>
    internal static EventStream Begun(HttpContext context) => new(context);

    /// <summary>Writes an event of JSON.</summary>
    internal async Task WriteAsync<T>(T data, JsonTypeInfo<T> type)
    {
        var body = _context.Response.BodyWriter;
        body.Write("data: "u8);
        body.Write(JsonSerializer.SerializeToUtf8Bytes(data, type));
        body.Write("\n\n"u8);
        await FlushAsync().ConfigureAwait(false);
    }

    /// <summary>Writes OpenAI's last event.</summary>
    internal async Task DoneAsync()
    {
        _context.Response.BodyWriter.Write("data: [DONE]\n\n"u8);
        await FlushAsync().ConfigureAwait(false);
    }

    /// <summary>Awaits the next item. While none comes, comments show that the server is there, and find out whether the client is.</summary>
    internal async Task<bool> NextAsync(Task<bool> next)
    {
        while (true)
        {
            try
            {
                return await next.WaitAsync(s_silence).ConfigureAwait(false);
            }
            catch (TimeoutException) when (!next.IsCompleted)
            {
                await PingAsync(next).ConfigureAwait(false);
            }
        }
    }

    private async Task PingAsync(Task next)
    {
        try
        {
            _context.Response.BodyWriter.Write(": waiting\n\n"u8);
            await FlushAsync().ConfigureAwait(false);
        }
        catch
        {
            // Items that are awaited cannot be disposed of before the next one has come, or not.
            await next.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw;
        }
    }

    private async Task FlushAsync() => await _context.Response.BodyWriter.FlushAsync(_context.RequestAborted).ConfigureAwait(false);
}
