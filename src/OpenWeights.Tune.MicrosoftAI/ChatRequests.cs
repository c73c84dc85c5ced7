using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.MicrosoftAI;

/// <summary>Messages and options as a request.</summary>
internal static class ChatRequests
{
    /// <summary>The request.</summary>
    /// <param name="messages">The messages.</param>
    /// <param name="options">The options; null for none.</param>
    /// <param name="model">Name of the model where the options name none.</param>
    /// <param name="client">The client that is asked.</param>
    /// <exception cref="ArgumentException">A message or an option has something that is not known; the message names it.</exception>
    internal static AnswerRequest Of(IEnumerable<ChatMessage> messages, ChatOptions? options, string model, IChatClient client)
    {
        options ??= new ChatOptions();
        if (options.ConversationId is not null)
        {
            throw new ArgumentException("ConversationId is set, but nothing is kept between requests: give all messages of the conversation instead.", nameof(options));
        }

        var request = options.RawRepresentationFactory?.Invoke(client) as AnswerRequest ?? new AnswerRequest { Options = new GenerationOptions { Temperature = 1, Seed = Random.Shared.NextInt64() } };
        var more = new MoreOptions(options.AdditionalProperties);
        return request with
        {
            Model = options.ModelId ?? request.Model ?? model,
            Messages = ChatMessages.Of(messages, options.Instructions),
            Tools = ToolsOf(options) ?? request.Tools,
            ToolChoice = options.ToolMode is null ? request.ToolChoice : ChoiceOf(options.ToolMode, options),
            ParallelToolCalls = options.AllowMultipleToolCalls ?? request.ParallelToolCalls,
            TemplateValues = ValuesOf(options.Reasoning, more.TemplateValues ?? request.TemplateValues),
            Format = options.ResponseFormat is null ? request.Format : FormatOf(options.ResponseFormat),
            MaxNewTokens = options.MaxOutputTokens ?? request.MaxNewTokens,
            Stops = options.StopSequences?.ToList() ?? request.Stops,
            IgnoresEnd = more.IgnoresEnd ?? request.IgnoresEnd,
            Options = Sampling(request.Options, options, more),
        };
    }

    private static GenerationOptions Sampling(GenerationOptions own, ChatOptions options, MoreOptions more) => own with
    {
        Temperature = Number(options.Temperature) ?? own.Temperature,
        TopP = Number(options.TopP) ?? own.TopP,
        TopK = options.TopK ?? own.TopK,
        MinP = more.MinP ?? own.MinP,
        Seed = options.Seed ?? own.Seed,
        PresencePenalty = Number(options.PresencePenalty) ?? own.PresencePenalty,
        FrequencyPenalty = Number(options.FrequencyPenalty) ?? own.FrequencyPenalty,
        RepetitionPenalty = more.RepetitionPenalty ?? own.RepetitionPenalty,
        LogProbs = own.LogProbs || more.TopLogProbs is not null,
        TopLogProbs = more.TopLogProbs ?? own.TopLogProbs,
    };

    private static double? Number(float? value) => value is { } number ? MoreOptions.AsWritten(number) : null;

    private static JsonArray? ToolsOf(ChatOptions options) => options.Tools is not { Count: > 0 } tools ? null : [.. tools.Select(Tool)];

    private static JsonObject Tool(AITool tool) => tool is AIFunctionDeclaration function
        ? new JsonObject
        {
            ["type"] = "function",
            ["function"] = new JsonObject { ["name"] = function.Name, ["description"] = function.Description, ["parameters"] = JsonObject.Create(function.JsonSchema) },
        }
        : throw new ArgumentException($"the tool {tool.Name} is a {tool.GetType().Name}; a model of this process calls functions alone.", nameof(tool));

    private static ToolChoice ChoiceOf(ChatToolMode mode, ChatOptions options)
    {
        if (mode is not RequiredChatToolMode required)
        {
            return mode is NoneChatToolMode ? ToolChoice.None : ToolChoice.Auto;
        }

        if (options.Tools is not { Count: > 0 } tools)
        {
            throw new ArgumentException("ToolMode requires a call, but there are no Tools.", nameof(options));
        }

        return required.RequiredFunctionName is not { } name ? ToolChoice.Required
            : tools.Any(t => t.Name == name) ? ToolChoice.Function(name)
            : throw new ArgumentException($"ToolMode requires a call of '{name}', which is not in Tools: {string.Join(", ", tools.Select(static t => t.Name))}.", nameof(options));
    }

    private static AnswerFormat FormatOf(ChatResponseFormat format) => format switch
    {
        ChatResponseFormatJson { Schema: { } schema } => AnswerFormat.JsonSchema(JsonSerializer.SerializeToNode(schema, AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(JsonElement)))!),
        ChatResponseFormatJson => AnswerFormat.JsonObject,
        _ => AnswerFormat.Free,
    };

    // The names that templates have for it, as the server maps reasoning_effort.
    private static JsonObject? ValuesOf(ReasoningOptions? reasoning, JsonObject? values)
    {
        var effort = reasoning?.Effort switch
        {
            null => null,
            ReasoningEffort.None => "none",
            ReasoningEffort.Low => "low",
            ReasoningEffort.Medium => "medium",
            ReasoningEffort.High => "high",
            _ => "xhigh",
        };
        if (effort is null)
        {
            return values;
        }

        var made = (JsonObject?)values?.DeepClone() ?? [];
        _ = made.TryAdd("reasoning_effort", effort);
        if (effort == "none")
        {
            _ = made.TryAdd("enable_thinking", false);
        }

        return made;
    }
}
