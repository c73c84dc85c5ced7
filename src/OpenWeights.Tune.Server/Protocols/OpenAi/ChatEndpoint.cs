using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>POST /v1/chat/completions.</summary>
/// <param name="state">The service.</param>
/// <param name="options">Limits.</param>
internal sealed class ChatEndpoint(ServerState state, ServerOptions options)
{
    private const int MostAlternatives = 20;

    internal void Map(IEndpointRouteBuilder routes)
    {
        _ = routes.MapPost("/v1/chat/completions", AnswerAsync);
        _ = routes.MapPost("/chat/completions", AnswerAsync);
    }

    private async Task AnswerAsync(HttpContext context)
    {
        var fields = await JsonBody.ReadAsync<ChatRequest>(context).ConfigureAwait(false);
        var service = state.Service;
        var model = state.Find(fields.Model, fields.Lora);
        var prepared = service.Prepare(Read(fields, model));
        var choices = Sampling.Choices(fields, state.MaxChoices);
        var isStream = fields.Stream == true;
        RequireStream(fields, isStream);
        var writer = new ChatWriter(AnswerHead.New("chatcmpl", model.Name, isStream), choices, fields.Logprobs == true, fields.StreamOptions?.IncludeUsage == true);
        await AnswerExchange.AnswerAsync(context, AnswerRun.Of([prepared], choices), options.Timeout, writer, isStream).ConfigureAwait(false);
    }

    /// <summary>A request in the service's terms.</summary>
    /// <exception cref="RequestException">A field is wrong.</exception>
    internal static AnswerRequest Read(ChatRequest fields, ServedModel model)
    {
        if (fields.Functions is { ValueKind: System.Text.Json.JsonValueKind.Array })
        {
            throw new RequestException("'functions' is no longer supported; use 'tools'.", "functions");
        }

        if (fields.Modalities?.FirstOrDefault(static m => m != "text") is { } modality)
        {
            throw new RequestException($"Invalid value: '{modality}'. This model answers with text alone.", "modalities");
        }

        var tools = ChatMessages.Tools(fields.Tools);
        var request = new AnswerRequest
        {
            Model = model.Name,
            Messages = ChatMessages.Read(fields.Messages, model.Tokenizer.ChatTemplateText),
            Tools = tools,
            ToolChoice = ChatMessages.Choice(fields.ToolChoice, tools),
            ParallelToolCalls = fields.ParallelToolCalls ?? true,
            TemplateValues = ChatMessages.Values(fields.ChatTemplateKwargs, fields.ReasoningEffort),
        };
        var most = fields.MaxCompletionTokens is { } given ? Sampling.Limit(given, "max_completion_tokens") : Sampling.Limit(fields);
        return Sampling.With(request, fields, model.Tokenizer, Alternatives(fields), most);
    }

    /// <summary>Requires that options of streams are given for streams alone.</summary>
    internal static void RequireStream(SamplingFields fields, bool isStream)
    {
        if (fields.StreamOptions is not null && !isStream)
        {
            throw new RequestException("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options");
        }
    }

    private static int? Alternatives(ChatRequest fields)
    {
        var most = (int?)Sampling.Between(fields.TopLogprobs, 0, MostAlternatives, "top_logprobs");
        return fields.Logprobs == true ? most ?? 0
            : most is > 0 ? throw new RequestException("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", "top_logprobs")
            : null;
    }
}
