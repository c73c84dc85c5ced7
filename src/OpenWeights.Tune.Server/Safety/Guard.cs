using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Safety;

/// <summary>What each request passes before anything else: its origin, its key; and what becomes of a failure.</summary>
/// <param name="state">The service.</param>
/// <param name="options">Keys and origins.</param>
internal sealed class Guard(ServerState state, ServerOptions options)
{
    private const int NothingToSay = 499;

    private readonly ApiKeyCheck _keys = new(options.ApiKeys);
    private readonly OriginCheck _origins = new(options);
    private readonly LargeRequests _large = new();

    internal async Task PassAsync(HttpContext context, RequestDelegate next)
    {
        var response = context.Response;
        response.Headers.XContentTypeOptions = "nosniff";
        if (_origins.Problem(context.Request) is { } problem)
        {
            await Errors.WriteAsync(context, StatusCodes.Status403Forbidden, new ErrorFields(problem, RequestException.Invalid) { Code = "origin_not_allowed" }).ConfigureAwait(false);
            return;
        }

        if (AllowOrigin(context))
        {
            return;
        }

        if (!IsOpen(context.Request.Path) && !_keys.Allows(context.Request))
        {
            response.Headers.WWWAuthenticate = "Bearer";
            await Errors.WriteAsync(context, StatusCodes.Status401Unauthorized, new ErrorFields("Invalid API key: send it as 'Authorization: Bearer KEY'.", "authentication_error") { Code = "invalid_api_key" }).ConfigureAwait(false);
            return;
        }

        await AnswerAsync(context, next).ConfigureAwait(false);
    }

    private async Task AnswerAsync(HttpContext context, RequestDelegate next)
    {
        try
        {
            await next(context).ConfigureAwait(false);
            await ExplainAsync(context).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The client is gone.
            context.Response.StatusCode = context.Response.HasStarted ? context.Response.StatusCode : NothingToSay;
        }
#pragma warning disable CA1031 // whatever happened becomes an answer, and the server goes on
        catch (Exception failure)
#pragma warning restore CA1031
        {
            if (Errors.Of(failure).Status == StatusCodes.Status500InternalServerError)
            {
                state.Report(failure);
            }

            await Errors.WriteAsync(context, failure).ConfigureAwait(false);
        }
        finally
        {
            _large.Note(context.Request);
        }
    }

    // Answers to cross-origin questions; true if that was all.
    private bool AllowOrigin(HttpContext context)
    {
        var origin = context.Request.Headers.Origin.ToString();
        if (origin.Length == 0 || !_origins.IsAllowed(origin))
        {
            return false;
        }

        var headers = context.Response.Headers;
        headers.AccessControlAllowOrigin = origin;
        headers.Vary = StringValues.Concat(headers.Vary, "Origin");
        if (!HttpMethods.IsOptions(context.Request.Method) || context.Request.Headers.AccessControlRequestMethod.Count == 0)
        {
            return false;
        }

        headers.AccessControlAllowMethods = "GET, POST";
        headers.AccessControlAllowHeaders = context.Request.Headers.AccessControlRequestHeaders.ToString() is { Length: > 0 } wanted ? wanted : "Authorization, Content-Type";
        headers.AccessControlMaxAge = "600";
        context.Response.StatusCode = StatusCodes.Status200OK;
        return true;
    }

    // Whether the server is there, and the page, are told to everyone; the page asks for the key.
    private static bool IsOpen(PathString path) => path == "/health" || path == "/v1/health" || path == "/";

    // Routing answers with a status alone.
    private static Task ExplainAsync(HttpContext context) => context.Response is { HasStarted: false, ContentLength: null, ContentType: null } response
        ? response.StatusCode switch
        {
            StatusCodes.Status404NotFound => Errors.WriteAsync(context, 404, new ErrorFields($"There is no {context.Request.Method} {context.Request.Path}.", "not_found_error")),
            StatusCodes.Status405MethodNotAllowed => Errors.WriteAsync(context, 405, new ErrorFields($"Not allowed to {context.Request.Method} on {context.Request.Path}; use {response.Headers.Allow}.", RequestException.Invalid) { Code = "method_not_allowed" }),
            _ => Task.CompletedTask,
        }
        : Task.CompletedTask;
}
