using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server;

/// <summary>GET /health and /v1/health: whether requests are answered.</summary>
/// <param name="state">The service.</param>
internal sealed class HealthEndpoint(ServerState state)
{
    private static readonly string[] s_methods = ["GET", "HEAD"];

    internal void Map(IEndpointRouteBuilder routes)
    {
        _ = routes.MapMethods("/health", s_methods, AnswerAsync);
        _ = routes.MapMethods("/v1/health", s_methods, AnswerAsync);
    }

    private async Task AnswerAsync(HttpContext context)
    {
        _ = state.Service;
        context.Response.ContentType = JsonBody.ContentType;
        await context.Response.WriteAsync("""{"status":"ok"}""", context.RequestAborted).ConfigureAwait(false);
    }
}
