using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>POST /v1/completions.</summary>
/// <param name="state">The service.</param>
/// <param name="options">Limits.</param>
internal sealed class CompletionEndpoint(ServerState state, ServerOptions options)
{
    private const int MostAlternatives = 20;
    private const int UsualTokens = 16;

    internal void Map(IEndpointRouteBuilder routes) => routes.MapPost("/v1/completions", AnswerAsync);

    private async Task AnswerAsync(HttpContext context)
    {
        var fields = await JsonBody.ReadAsync<CompletionRequest>(context).ConfigureAwait(false);
        var service = state.Service;
        var model = state.Find(fields.Model, fields.Lora);
        Check(fields);
        var choices = Sampling.Choices(fields, state.MaxChoices);
        var alternatives = (int?)Sampling.Between(fields.Logprobs, 0, MostAlternatives, "logprobs");
        var prompts = PromptField.Read(fields.Prompt, "prompt", model.Tokenizer, state.MaxChoices);
        if (prompts.Count * choices > state.MaxChoices)
        {
            throw new RequestException($"Invalid 'n': {prompts.Count} prompts with {choices} choices each are more than the {state.MaxChoices} that this server allows.", "n");
        }

        var isStream = fields.Stream == true;
        ChatEndpoint.RequireStream(fields, isStream);
        var prepared = prompts.Select(p => service.Prepare(Sampling.With(
            new AnswerRequest { Model = model.Name, Text = p.Text, Tokens = p.Tokens }, fields, model.Tokenizer, alternatives, Limit(fields)))).ToList();
        var echoes = new List<CompletionEcho>();
        foreach (var one in prepared)
        {
            echoes.Add(fields.Echo == true ? await Echo(service, one, alternatives, context.RequestAborted).ConfigureAwait(false) : CompletionEcho.None);
        }

        var writer = new CompletionWriter(AnswerHead.New("cmpl", model.Name, isStream), echoes, choices, alternatives is not null, fields.StreamOptions?.IncludeUsage == true);
        await AnswerExchange.AnswerAsync(context, AnswerRun.Of(prepared, choices), options.Timeout, writer, isStream).ConfigureAwait(false);
    }

    private static int? Limit(CompletionRequest fields) => fields switch
    {
        { MaxTokens: 0 } => 0,
        { MaxTokens: null, NPredict: null } => UsualTokens,
        _ => Sampling.Limit(fields),
    };

    private static void Check(CompletionRequest fields)
    {
        if (fields.Suffix is { Length: > 0 })
        {
            throw new RequestException("'suffix' is not supported: the model continues a text, and does not fill it in.", "suffix");
        }

        if (fields.BestOf is { } best && best != (fields.N ?? 1))
        {
            throw new RequestException("'best_of' is not supported; use 'n' and choose.", "best_of");
        }
    }

    private static async Task<CompletionEcho> Echo(AnswerService service, PreparedAnswer prepared, int? alternatives, CancellationToken stop)
    {
        var text = prepared.Prompt ?? prepared.Model.Tokenizer.Decode(prepared.Tokens, skipSpecialTokens: false);
        if (alternatives is not { } most)
        {
            return new CompletionEcho(text, []);
        }

        var scores = await service.ScoreAsync(prepared, most, stop).ConfigureAwait(false);
        return new CompletionEcho(text, [.. scores.Select(static (t, i) => (t, i > 0))]);
    }
}
