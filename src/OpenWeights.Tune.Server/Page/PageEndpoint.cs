using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace OpenWeights.Tune.Server.Page;

/// <summary>GET /: a page to chat with.</summary>
internal static class PageEndpoint
{
    internal static void Map(IEndpointRouteBuilder routes) => routes.MapGet("/", AnswerAsync);

    private static async Task AnswerAsync(HttpContext context)
    {
        var response = context.Response;
        response.ContentType = "text/html; charset=utf-8";
        response.Headers.CacheControl = "no-cache";
        response.Headers.ContentSecurityPolicy = ChatPage.ContentSecurityPolicy;
        response.Headers["Referrer-Policy"] = "no-referrer";
        await response.WriteAsync(ChatPage.Html, context.RequestAborted).ConfigureAwait(false);
    }
}
