using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Server.Page;

/// <summary>GET /reports/NAME: the report of the run that made a served model. A name finds a model and nothing else.</summary>
/// <param name="state">The service.</param>
internal sealed class ReportEndpoint(ServerState state)
{
    // A report is a file that somebody may have given along with an adapter: it runs nothing, and asks nobody.
    private const string Policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

    /// <summary>The path at which a model's report is shown; null where there is none, and where a key is wanted, which a link does not carry.</summary>
    internal static string? Link(ServedModel model, ServerOptions options) =>
        options is { HasPage: true, ApiKeys.Count: 0 } && RunFolder.ReportOf(model.Folder) is not null ? "/reports/" + Uri.EscapeDataString(model.Name) : null;

    internal void Map(IEndpointRouteBuilder routes) => routes.MapGet("/reports/{name}", AnswerAsync);

    private async Task AnswerAsync(HttpContext context)
    {
        var model = state.Service.Find(context.Request.RouteValues["name"] as string);
        if (RunFolder.ReportOf(model.Folder) is not { } report)
        {
            context.Response.StatusCode = StatusCodes.Status404NotFound;
            return;
        }

        context.Response.ContentType = "text/html; charset=utf-8";
        context.Response.Headers.CacheControl = "no-cache";
        context.Response.Headers.ContentSecurityPolicy = Policy;
        await context.Response.SendFileAsync(report, context.RequestAborted).ConfigureAwait(false);
    }
}
