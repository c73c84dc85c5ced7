using System.Runtime.InteropServices;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>POST /v1/embeddings.</summary>
/// <param name="state">The service.</param>
internal sealed class EmbeddingEndpoint(ServerState state)
{
    private const int MostTexts = 2048;

    internal void Map(IEndpointRouteBuilder routes)
    {
        _ = routes.MapPost("/v1/embeddings", AnswerAsync);
        _ = routes.MapPost("/embeddings", AnswerAsync);
    }

    private async Task AnswerAsync(HttpContext context)
    {
        var fields = await JsonBody.ReadAsync<EmbeddingRequest>(context).ConfigureAwait(false);
        var service = state.Service;
        var model = state.Find(fields.Model);
        var isBase64 = fields.EncodingFormat switch
        {
            null or "float" => false,
            "base64" => true,
            var other => throw new RequestException($"Invalid value: '{other}'. Supported values are: 'float' and 'base64'.", "encoding_format"),
        };
        if (fields.Dimensions is { } wanted && wanted != service.EmbeddingWidth)
        {
            throw new RequestException($"Invalid 'dimensions': this model's vectors have {service.EmbeddingWidth} numbers, and cannot be shortened.", "dimensions");
        }

        var texts = PromptField.Read(fields.Input, "input", model.Tokenizer, MostTexts)
            .Select(p => p.Text is { } text ? service.EncodeForEmbedding(text, model) : [.. p.Tokens!]).ToList();
        var vectors = await service.EmbedAsync(texts, model.Name, context.RequestAborted).ConfigureAwait(false);
        var tokens = texts.Sum(static t => t.Length);
        await JsonBody.WriteAsync(context, new EmbeddingList(
            [.. vectors.Select((v, i) => new EmbeddingEntry(isBase64 ? Convert.ToBase64String(MemoryMarshal.AsBytes<float>(v)) : v, i))], model.Name, new EmbeddingUsage(tokens, tokens))
        { Pooling = Pooling(service) }).ConfigureAwait(false);
    }

    /// <summary>Which hidden states vectors are made of.</summary>
    internal static string Pooling(Answering.AnswerService service) => service.Embedding.Pooling == Models.EmbeddingPooling.Mean ? "mean" : "last";
}
