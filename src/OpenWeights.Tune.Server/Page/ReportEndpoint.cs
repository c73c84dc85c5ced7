using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Server.Safety;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Server.Page;

/// <summary>GET /reports/NAME: the report of the run that made a served model. A name finds a model and nothing else.</summary>
/// <param name="state">The service.</param>
internal sealed class ReportEndpoint(ServerState state)
{
    // A report is a file that somebody may have given along with an adapter: it runs nothing, and asks nobody.
    private const string Policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

    /// <summary>The path at which a model's report is shown, with a ticket where a key is wanted; null where there is none.</summary>
    internal static string? Link(ServedModel model, ServerOptions options, ReportTickets tickets) => options.HasPage && RunFolder.ReportOf(model.Folder) is not null
        ? $"{ReportTickets.Path}/{Uri.EscapeDataString(model.Name)}{(options.ApiKeys.Count > 0 ? tickets.Query(model.Name) : "")}"
        : null;

    internal void Map(IEndpointRouteBuilder routes) => routes.MapGet(ReportTickets.Path + "/{name}", AnswerAsync);

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
