using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.MicrosoftAI;

/// <summary>Makes the updates of one response from what happens while an answer is generated.</summary>
/// <param name="model">Name of the model that answers.</param>
internal sealed class ChatUpdates(string model)
{
    private readonly string _id = "chatcmpl-" + Guid.NewGuid().ToString("N");
    private readonly DateTimeOffset _created = DateTimeOffset.UtcNow;
    private readonly SortedDictionary<int, Call> _calls = [];

    /// <summary>The update for an event; null for a piece of a call, which is told when the answer has ended, since its arguments are no JSON before.</summary>
    internal ChatResponseUpdate? Of(AnswerEvent happened) => happened switch
    {
        AnswerDelta { Piece: ToolCallPiece piece } => Begin(piece),
        AnswerDelta { Piece: ReasoningPiece piece } => Update(happened, new TextReasoningContent(piece.Text)),
        AnswerDelta { Piece: ContentPiece piece } => Update(happened, new TextContent(piece.Text)),
        AnswerFinished end => End(end),
        _ => null,
    };

    private ChatResponseUpdate? Begin(ToolCallPiece piece)
    {
        if (!_calls.TryGetValue(piece.Index, out var call))
        {
            _calls[piece.Index] = call = new Call();
        }

        call.Id ??= piece.Id;
        call.Name ??= piece.Name;
        _ = call.Arguments.Append(piece.Arguments);
        return null;
    }

    private ChatResponseUpdate End(AnswerFinished end)
    {
        var usage = new UsageDetails
        {
            InputTokenCount = end.Usage.Prompt,
            OutputTokenCount = end.Usage.Completion,
            TotalTokenCount = end.Usage.Prompt + end.Usage.Completion,
            CachedInputTokenCount = end.Usage.Cached,
            ReasoningTokenCount = end.Usage.Reasoning,
        };
        var update = Update(end, [.. _calls.Values.Select(static c => c.Content()), new UsageContent(usage)]);
        update.FinishReason = end.FinishReason switch
        {
            FinishReason.Length => ChatFinishReason.Length,
            FinishReason.ToolCalls => ChatFinishReason.ToolCalls,
            _ => ChatFinishReason.Stop,
        };
        return update;
    }

    private ChatResponseUpdate Update(AnswerEvent made, params AIContent[] contents) => new(ChatRole.Assistant, [.. contents])
    {
        ResponseId = _id,
        MessageId = _id,
        ModelId = model,
        CreatedAt = _created,
        RawRepresentation = made,
    };

    private sealed class Call
    {
        internal string? Id { get; set; }

        internal string? Name { get; set; }

        internal StringBuilder Arguments { get; } = new();

        // Arguments that are no JSON object become the content's exception, which a caller of functions tells the model.
        internal FunctionCallContent Content() => FunctionCallContent.CreateFromParsedArguments(
            Arguments.ToString(), Id ?? "", Name ?? "", static json => JsonSerializer.Deserialize<Dictionary<string, object?>>(json.Length == 0 ? "{}" : json, AIJsonUtilities.DefaultOptions));
    }
}
