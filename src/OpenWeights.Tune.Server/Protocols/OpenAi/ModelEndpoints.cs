using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>GET /v1/models, and vLLM's POST /v1/load_lora_adapter and /v1/unload_lora_adapter.</summary>
/// <param name="state">The service.</param>
/// <param name="options">The folder of adapters.</param>
internal sealed class ModelEndpoints(ServerState state, ServerOptions options)
{
    internal void Map(IEndpointRouteBuilder routes)
    {
        foreach (var path in new[] { "/v1/models", "/models" })
        {
            _ = routes.MapGet(path, ListAsync);
            _ = routes.MapGet(path + "/{**name}", FindAsync);
        }

        _ = routes.MapPost("/v1/load_lora_adapter", LoadAsync);
        _ = routes.MapPost("/v1/unload_lora_adapter", UnloadAsync);
    }

    private Task ListAsync(HttpContext context) => JsonBody.WriteAsync(context, new ModelList([.. state.Service.Models.Select(Entry)]));

    private Task FindAsync(HttpContext context) => JsonBody.WriteAsync(context, Entry(state.Service.Find(context.Request.RouteValues["name"] as string)));

    // A path of this machine is nobody's business: the root is a name.
    private ModelEntry Entry(ServedModel model) => new(model.Name, model.Created.ToUnixTimeSeconds(), Configuration.ModelPath.NameOf(model.Folder), state.Service.Context)
    {
        Parent = model.Parent,
        Report = Page.ReportEndpoint.Link(model, options, state.Tickets),
        Meta = new ModelMeta(state.Service.VocabularySize, state.Service.Context, state.Service.Config.ContextLength, state.Service.EmbeddingWidth, EmbeddingEndpoint.Pooling(state.Service)),
    };

    private async Task LoadAsync(HttpContext context)
    {
        var fields = await JsonBody.ReadAsync<AdapterRequest>(context).ConfigureAwait(false);
        var below = Below();
        var name = Name(fields);
        var folder = below.Find(fields.LoraPath ?? name);
        try
        {
            _ = await state.Service.LoadAdapterAsync(name, folder, context.RequestAborted).ConfigureAwait(false);
        }
        catch (Exception e) when (e is InvalidDataException or IOException or UnauthorizedAccessException)
        {
            // A path of this machine is nobody's business.
            throw new RequestException(e.Message.Replace(Path.GetFullPath(options.AdaptersBelow!) + Path.DirectorySeparatorChar, "", StringComparison.Ordinal), "lora_path");
        }

        await SayAsync(context, $"Success: LoRA adapter '{name}' added successfully.").ConfigureAwait(false);
    }

    private async Task UnloadAsync(HttpContext context)
    {
        var fields = await JsonBody.ReadAsync<AdapterRequest>(context).ConfigureAwait(false);
        _ = Below();
        await state.Service.UnloadAdapterAsync(Name(fields), context.RequestAborted).ConfigureAwait(false);
        await SayAsync(context, $"Success: LoRA adapter '{fields.LoraName}' removed successfully.").ConfigureAwait(false);
    }

    private Safety.AdapterFolders Below() => options.AdaptersBelow is { } folder
        ? new Safety.AdapterFolders(folder)
        : throw new RequestException(403, new ErrorFields("Adapters are not loaded at run time here; start the server with --adapters-below DIR.", RequestException.Invalid));

    private static string Name(AdapterRequest fields) => fields.LoraName is not { Length: > 0 } name ? throw new RequestException("Missing required parameter: 'lora_name'.", "lora_name")
        : name.Length > 200 || name.Any(char.IsControl) ? throw new RequestException("Invalid 'lora_name': a name has at most 200 characters, and no control characters.", "lora_name")
        : name;

    private static async Task SayAsync(HttpContext context, string text)
    {
        context.Response.ContentType = "text/plain; charset=utf-8";
        await context.Response.WriteAsync(text, context.RequestAborted).ConfigureAwait(false);
    }
}
