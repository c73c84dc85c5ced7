using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols.LlamaCpp;

/// <summary>POST /completion and /completions, llama.cpp's own.</summary>
/// <param name="state">The service.</param>
/// <param name="options">Limits.</param>
internal sealed class NativeEndpoint(ServerState state, ServerOptions options)
{
    private const int MostAlternatives = 100;

    internal void Map(IEndpointRouteBuilder routes)
    {
        _ = routes.MapPost("/completion", AnswerAsync);
        _ = routes.MapPost("/completions", AnswerAsync);
    }

    private async Task AnswerAsync(HttpContext context)
    {
        var fields = await LlamaJson.ReadAsync<NativeRequest>(context).ConfigureAwait(false);
        var service = state.Service;
        var model = state.Find(fields.Model);
        int? most = Sampling.Between(fields.NProbs, 0, MostAlternatives, "n_probs") is > 0 and var wanted ? (int)wanted : null;
        var prompts = PromptField.Read(fields.Prompt, "prompt", model.Tokenizer, options.MaxChoices);
        var requests = prompts.Select(p => Sampling.With(new AnswerRequest { Model = model.Name, Text = p.Text, Tokens = p.Tokens, TellsTokens = true }, fields, model.Tokenizer, most, null)).ToList();
        var prepared = requests.Select(service.Prepare).ToList();
        var isList = fields.Prompt is { ValueKind: System.Text.Json.JsonValueKind.Array } list && prompts.Count == list.GetArrayLength() && prompts.Count > 1;
        var writer = new NativeWriter(prepared, requests[0], isList, most is not null, fields.ReturnTokens == true, fields.Stream == true);
        await AnswerExchange.AnswerAsync(context, AnswerRun.Of(prepared, 1), options.Timeout, writer, fields.Stream == true).ConfigureAwait(false);
    }
}
