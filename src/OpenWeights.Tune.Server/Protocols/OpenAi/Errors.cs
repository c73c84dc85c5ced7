using System.Globalization;
using Microsoft.AspNetCore.Http;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>What went wrong, as an answer in OpenAI's shape.</summary>
internal static class Errors
{
    /// <summary>The answer to a failure.</summary>
    /// <param name="failure">The failure.</param>
    /// <returns>The status, the error, and after what time to try again.</returns>
    internal static (int Status, ErrorFields Error, TimeSpan? RetryAfter) Of(Exception failure) => failure switch
    {
        RequestException e => (e.Status, e.Error, null),
        AnswerRefusedException e => Refused(e),
        EngineBusyException { IsDraining: true } e => (503, new ErrorFields("The server is shutting down.", "unavailable_error"), e.RetryAfter),
        EngineBusyException e => (429, new ErrorFields($"Too many requests are waiting; try again in {Seconds(e.RetryAfter)} s.", "rate_limit_error") { Code = "rate_limit_exceeded" }, e.RetryAfter),
        BadHttpRequestException { StatusCode: 413 } => (413, new ErrorFields("The request is larger than this server takes (--max-request-mb).", RequestException.Invalid) { Code = "request_too_large" }, null),
        BadHttpRequestException e => (e.StatusCode, new ErrorFields(e.Message, RequestException.Invalid), null),
        InvalidDataException e => (400, new ErrorFields(e.Message, RequestException.Invalid), null),
        TimeoutException e => (504, new ErrorFields(e.Message, "timeout_error") { Code = "timeout" }, null),
        OutOfMemoryException => (503, new ErrorFields("There is no memory for this request; try a shorter one.", "server_error"), null),
        ObjectDisposedException => (503, new ErrorFields("The server is shutting down.", "unavailable_error"), null),
        _ => (500, new ErrorFields($"The server failed: {failure.GetType().Name}.", "server_error"), null),
    };

    /// <summary>Answers with an error, unless the answer has begun.</summary>
    internal static async Task WriteAsync(HttpContext context, Exception failure)
    {
        if (context.Response.HasStarted || context.RequestAborted.IsCancellationRequested)
        {
            return;
        }

        var (status, error, retryAfter) = Of(failure);
        if (retryAfter is { } wait)
        {
            context.Response.Headers.RetryAfter = Seconds(wait).ToString(CultureInfo.InvariantCulture);
        }

        await WriteAsync(context, status, error).ConfigureAwait(false);
    }

    /// <summary>Writes a failure: as the answer, or as an event of the stream that has begun.</summary>
    internal static async Task FailAsync(HttpContext context, Exception failure)
    {
        if (!context.Response.HasStarted)
        {
            await WriteAsync(context, failure).ConfigureAwait(false);
        }
        else if (!context.RequestAborted.IsCancellationRequested)
        {
            await EventStream.Begun(context).WriteAsync(new ErrorAnswer(Of(failure).Error), OpenAiJson.Of<ErrorAnswer>()).ConfigureAwait(false);
        }
    }

    internal static Task WriteAsync(HttpContext context, int status, ErrorFields error)
    {
        context.Response.StatusCode = status;
        return JsonBody.WriteAsync(context, new ErrorAnswer(error));
    }

    private static int Seconds(TimeSpan time) => Math.Max(1, (int)Math.Ceiling(time.TotalSeconds));

    private static (int, ErrorFields, TimeSpan?) Refused(AnswerRefusedException e) => e.Kind switch
    {
        RefusalKind.NoSuchModel => (404, new ErrorFields(e.Message, RequestException.Invalid) { Param = e.Parameter, Code = "model_not_found" }, null),
        RefusalKind.TooLong => (400, new ErrorFields(e.Message, "exceed_context_size_error") { Param = e.Parameter, Code = "context_length_exceeded", NPromptTokens = e.PromptTokens, NCtx = e.ContextTokens }, null),
        _ => (400, new ErrorFields(e.Message, RequestException.Invalid) { Param = e.Parameter }, null),
    };
}
