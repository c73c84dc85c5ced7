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
        var model = state.Find(fields.Model, fields.Lora);
        int? most = Sampling.Between(fields.NProbs, 0, MostAlternatives, "n_probs") is > 0 and var wanted ? (int)wanted : null;
        var choices = fields.NCmpl is { } wantedChoices ? (int)Sampling.Between(wantedChoices, 1, state.MaxChoices, "n_cmpl")! : Sampling.Choices(fields, state.MaxChoices);
        var prompts = PromptField.Read(fields.Prompt, "prompt", model.Tokenizer, state.MaxChoices);
        if (prompts.Count * choices > state.MaxChoices)
        {
            throw new RequestException($"Invalid 'n_cmpl': {prompts.Count} prompts with {choices} choices each are more than the {state.MaxChoices} that this server allows.", "n_cmpl");
        }

        var requests = prompts.Select(p => OfDraw(Sampling.With(
            new AnswerRequest { Model = model.Name, Text = p.Text, Tokens = p.Tokens, TellsTokens = true }, fields, model.Tokenizer, most, fields.MaxTokens is 0 ? 0 : Sampling.Limit(fields)), fields)).ToList();
        var prepared = requests.Select(service.Prepare).ToList();
        var writer = new NativeWriter(prepared, requests[0], fields, choices);
        await AnswerExchange.AnswerAsync(context, AnswerRun.Of(prepared, choices), options.Timeout, writer, fields.Stream == true).ConfigureAwait(false);
    }

    private static AnswerRequest OfDraw(AnswerRequest request, NativeRequest fields) => request with { Options = request.Options with { LogProbsOfDraw = fields.PostSamplingProbs == true } };
}
