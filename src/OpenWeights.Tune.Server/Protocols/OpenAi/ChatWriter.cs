using System.Text;
using Microsoft.AspNetCore.Http;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>Writes chats' answers.</summary>
/// <param name="head">What all of an answer's JSON begins with.</param>
/// <param name="choices">Number of choices.</param>
/// <param name="hasLogProbs">Whether log-probabilities were asked for.</param>
/// <param name="hasUsage">Whether a stream ends with its usage.</param>
internal sealed class ChatWriter(AnswerHead head, int choices, bool hasLogProbs, bool hasUsage) : IAnswerWriter
{
    private readonly Collected[] _collected = [.. Enumerable.Range(0, choices).Select(static _ => new Collected())];
    private readonly SortedDictionary<int, AnswerFinished> _finished = [];

    private IReadOnlyList<AnswerFinished> Finished => [.. _finished.Values];

    public void Collect(int index, AnswerEvent happened)
    {
        if (happened is AnswerFinished end)
        {
            _finished[index] = end;
        }
        else if (happened is AnswerDelta delta)
        {
            _collected[index].Add(delta);
        }
    }

    public Task WriteAsync(HttpContext context) => JsonBody.WriteAsync(context, head.Chat([.. _collected.Select((c, i) => new ChatChoice(i)
    {
        FinishReason = Numbers.Reason(_finished[i].FinishReason),
        Message = c.Message,
        Logprobs = hasLogProbs ? new ChatLogProbs(c.LogProbs) : null,
    })]) with
    { Usage = Numbers.Usage(Finished, choices), Timings = Numbers.Timings(Finished, choices) });

    public async Task BeginAsync(EventStream stream)
    {
        for (var i = 0; i < choices; i++)
        {
            await Chunk(stream, new ChatChoice(i) { Delta = new FirstDelta() }, null).ConfigureAwait(false);
        }
    }

    public async Task WriteAsync(EventStream stream, int index, AnswerEvent happened)
    {
        if (happened is AnswerDelta delta)
        {
            await Chunk(stream, new ChatChoice(index) { Delta = Delta(delta.Piece), Logprobs = hasLogProbs && delta.Piece is ContentPiece ? new ChatLogProbs([.. delta.Tokens.Select(Numbers.LogProb)]) : null }, Numbers.Timings(delta)).ConfigureAwait(false);
        }
        else if (happened is AnswerProgress progress)
        {
            await stream.WriteAsync(head.Chat([new ChatChoice(index) { Delta = new NextDelta() }]) with { PromptProgress = Numbers.Progress(progress) }, OpenAiJson.Of<ChatAnswer>()).ConfigureAwait(false);
        }
        else if (happened is AnswerFinished end)
        {
            _finished[index] = end;
            var isLast = _finished.Count == choices && !hasUsage;
            await Chunk(stream, new ChatChoice(index) { Delta = new NextDelta(), FinishReason = Numbers.Reason(end.FinishReason) }, isLast ? Numbers.Timings(Finished, choices) : null).ConfigureAwait(false);
        }
    }

    public async Task EndAsync(EventStream stream)
    {
        if (hasUsage)
        {
            await stream.WriteAsync(head.Chat([]) with { Usage = Numbers.Usage(Finished, choices), Timings = Numbers.Timings(Finished, choices) }, OpenAiJson.Of<ChatAnswer>()).ConfigureAwait(false);
        }

        await stream.DoneAsync().ConfigureAwait(false);
    }

    public Task FailAsync(HttpContext context, Exception failure) => Errors.FailAsync(context, failure);

    private Task Chunk(EventStream stream, ChatChoice choice, TimingFields? timings) =>
        stream.WriteAsync(head.Chat([choice]) with { Timings = timings }, OpenAiJson.Of<ChatAnswer>());

    private static NextDelta Delta(AnswerPiece piece) => piece switch
    {
        // Tokens that are left at the end have no text.
        ContentPiece content => new NextDelta { Content = content.Text.Length > 0 ? content.Text : null },
        ReasoningPiece reasoning => new NextDelta { ReasoningContent = reasoning.Text },
        ToolCallPiece call => new NextDelta { ToolCalls = [new ToolCall(new FunctionCall(call.Name, call.Arguments)) { Index = call.Index, Id = call.Id, Type = call.Id is null ? null : "function" }] },
        _ => new NextDelta(),
    };

    private sealed class Collected
    {
        private readonly StringBuilder _content = new();
        private readonly StringBuilder _reasoning = new();
        private readonly SortedDictionary<int, (string? Id, string? Name, StringBuilder Arguments)> _calls = [];

        internal List<TokenLogProb> LogProbs { get; } = [];

        internal ChatMessage Message => new()
        {
            Content = _content.Length > 0 || _calls.Count == 0 ? _content.ToString() : null,
            ReasoningContent = _reasoning.Length > 0 ? _reasoning.ToString() : null,
            ToolCalls = _calls.Count == 0 ? null : [.. _calls.Values.Select(static c => new ToolCall(new FunctionCall(c.Name, c.Arguments.ToString())) { Id = c.Id, Type = "function" })],
        };

        internal void Add(AnswerDelta delta)
        {
            switch (delta.Piece)
            {
                case ContentPiece content:
                    _ = _content.Append(content.Text);
                    LogProbs.AddRange(delta.Tokens.Select(Numbers.LogProb));
                    break;
                case ReasoningPiece reasoning:
                    _ = _reasoning.Append(reasoning.Text);
                    break;
                case ToolCallPiece call:
                    var known = _calls.TryGetValue(call.Index, out var begun) ? begun : (call.Id, call.Name, new StringBuilder());
                    _ = known.Item3.Append(call.Arguments);
                    _calls[call.Index] = known;
                    break;
            }
        }
    }
}
