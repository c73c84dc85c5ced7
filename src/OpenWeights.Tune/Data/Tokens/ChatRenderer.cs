using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>Renders chats with a model's chat template; safe for use by several threads.</summary>
internal sealed class ChatRenderer
{
    private readonly ChatTemplate _template;
    private readonly ChatTemplate _templateWithTools;
    private readonly IReadOnlyDictionary<string, string> _specialTokens;
    private readonly IReadOnlyList<string> _endTokens;
    private readonly ConcurrentDictionary<string, bool> _warnings = [];

    /// <summary>Creates a renderer of a tokenizer's template.</summary>
    /// <param name="tokenizer">The tokenizer, which must have a template.</param>
    /// <param name="endTokens">End tokens of the model's configs, besides the tokenizer's own.</param>
    /// <exception cref="ChatTemplateException">The template is invalid.</exception>
    public ChatRenderer(ITokenizer tokenizer, IReadOnlyList<int>? endTokens = null)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        var text = tokenizer.ChatTemplateText ?? throw new ArgumentException("the tokenizer has no chat template", nameof(tokenizer));
        _template = ChatTemplate.Parse(text, tokenizer.ChatTemplateName);
        _templateWithTools = tokenizer.ChatTemplateFor(withTools: true) is { } other && other != text
            ? ChatTemplate.Parse(other, $"{tokenizer.ChatTemplateName} (tool_use)")
            : _template;
        _specialTokens = tokenizer.SpecialTokens;
        _endTokens = [.. (endTokens ?? []).Select(id => tokenizer.Decode([id], skipSpecialTokens: false))];
        Reasoning = ReasoningFormat.Of(text + tokenizer.ChatTemplateFor(withTools: true), messages => _template.Render(new() { Messages = messages, SpecialTokens = _specialTokens, EndTokens = _endTokens }));
        foreach (var (name, token) in _specialTokens.Where(s => s.Value.Length > 0 && text.Contains(s.Key, StringComparison.Ordinal)))
        {
            // A token in the vocabulary stays one token; other text is split.
            if (tokenizer.EncodeWithOffsets(token, addSpecialTokens: false).Count(static s => s.End > s.Start) > 1)
            {
                _ = _warnings.TryAdd($"the chat template writes {name}, \"{token}\", which is not in the tokenizer's vocabulary and is split into several tokens.", true);
            }
        }
    }

    /// <summary>How the template writes reasoning.</summary>
    public ReasoningFormat Reasoning { get; }

    /// <summary>Warnings about the template.</summary>
    public IReadOnlyCollection<string> Warnings => [.. _warnings.Keys.Order(StringComparer.Ordinal)];

    /// <summary>Renders a chat.</summary>
    /// <param name="messages">The messages.</param>
    /// <param name="tools">The tools that the assistant may call, or null.</param>
    /// <param name="addGenerationPrompt">Whether to append the start of the assistant's next turn.</param>
    /// <param name="values">Values for more variables of the template, such as <c>enable_thinking</c>; null for none.</param>
    /// <exception cref="ChatTemplateException">The template rejects the messages.</exception>
    public string Render(JsonArray messages, JsonNode? tools, bool addGenerationPrompt, JsonObject? values = null) => TemplateFor(tools).Render(Input(messages, tools, addGenerationPrompt, values));

    /// <summary>
    /// Renders a chat and determines the trained characters: the text of the assistant's turns and their ends, without their headers.
    /// </summary>
    /// <param name="messages">The messages.</param>
    /// <param name="tools">The tools that the assistant may call, or null.</param>
    /// <param name="turns">Which turns are trained.</param>
    /// <exception cref="ChatTemplateException">The template rejects the messages, or the assistant's text cannot be located.</exception>
    public ChatForTraining RenderForTraining(JsonArray messages, JsonNode? tools, TrainedTurns turns)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ArgumentNullException.ThrowIfNull(turns);
        var rendered = TemplateFor(tools).RenderWithSpans(
            Input(messages, tools, addGenerationPrompt: false), turns.All ? [] : null, turns.LastAlone);
        foreach (var warning in rendered.Warnings)
        {
            _ = _warnings.TryAdd(warning, true);
        }

        var (text, spans) = Ended(rendered);
        var last = rendered.AssistantSpans.Count == 0 ? -1 : rendered.AssistantSpans.Max(static s => s.MessageIndex);
        var trained = turns.All
            ? Without(0..text.Length, rendered.MessageSpans.Where(s => !turns.Allows(s.MessageIndex)).Select(static s => s.Start..s.End))
            : [.. spans.Where(s => turns.Allows(s.MessageIndex) && (!turns.LastAlone || s.MessageIndex == last)).SelectMany(s => Chosen(text, s.Start..s.End, turns))];
        if (!turns.All)
        {
            WarnOfReasoning(messages, text, trained);
        }

        var ends = rendered.MessageSpans.Concat(spans).Where(s => IsAssistant(messages, s.MessageIndex)).GroupBy(static s => s.MessageIndex).Select(g => Math.Min(text.Length, g.Max(static s => s.End))).Order();
        return new ChatForTraining(text, trained, [.. ends]) { Written = rendered.MessageSpans.Select(static s => s.MessageIndex).ToHashSet() };
    }

    // The last turn ends as it would before another message; otherwise the model would not learn to stop in chats of one answer.
    private static (string Text, IReadOnlyList<ChatSpan> Spans) Ended(RenderedChat rendered)
    {
        if (rendered.MissingEnd is not { } end || rendered.AssistantSpans.Count == 0)
        {
            return (rendered.Text, rendered.AssistantSpans);
        }

        var last = rendered.AssistantSpans[^1];
        return (rendered.Text[..last.End] + end, [.. rendered.AssistantSpans.SkipLast(1), last with { Length = last.Length + end.Length }]);
    }

    private static bool IsAssistant(JsonArray messages, int index) => index >= 0 && messages[index]!["role"]!.GetValue<string>() == "assistant";

    // What of a turn is trained. By default a reasoning between tags is, and one in a channel of its own is not.
    private List<Range> Chosen(string text, Range turn, TrainedTurns turns)
    {
        var left = turns.Reasoning ?? !Reasoning.HasChannels ? [] : Reasoning.In(text, turn).ToList();
        if (Reasoning.EndWithoutStop(text, turn) is { } end)
        {
            left.Add(end);
        }

        return Without(turn, left);
    }

    // What remains of a part of a text.
    private static List<Range> Without(Range part, IEnumerable<Range> ranges)
    {
        var (left, at) = (new List<Range>(), part.Start.Value);
        foreach (var range in ranges.OrderBy(static r => r.Start.Value))
        {
            if (range.Start.Value > at)
            {
                left.Add(at..range.Start);
            }

            at = Math.Max(at, range.End.Value);
        }

        if (at < part.End.Value)
        {
            left.Add(at..part.End);
        }

        return left;
    }

    private void WarnOfReasoning(JsonArray messages, string text, List<Range> trained)
    {
        var last = messages.Count - 1;
        foreach (var (message, _) in ReasoningFormat.ReasoningOf(messages).Where(r => !text.Contains(r.Reasoning, StringComparison.Ordinal)))
        {
            _ = _warnings.TryAdd(
                message == last
                    ? "the chat template does not write the reasoning of the last answer of a chat, so it is not trained; name one that does with model.chat_template."
                    : "the chat template leaves out the reasoning of earlier answers of a chat, in training as in serving; to train it, let each such answer end a row of its own (and data.train_on: completion).",
                true);
        }

        if (trained.Exists(t => Reasoning.IsOpenAtEnd(text[..t.Start.Value]) && text.AsSpan(t).TrimStart().StartsWith(Reasoning.Close, StringComparison.Ordinal)))
        {
            _ = _warnings.TryAdd(
                $"some answers have no reasoning, and the prompt begins one ({Reasoning.Open}): the model learns to end it at once."
                + (Reasoning.IsSwitched ? " If it is not to reason, set data.chat_template_kwargs: { enable_thinking: false }, which the prompt then says." : ""),
                true);
        }
    }

    private ChatTemplate TemplateFor(JsonNode? tools) => tools is null ? _template : _templateWithTools;

    // A template would write a placeholder, or nothing, for content that the model does not see.
    private static void RequireText(JsonArray messages)
    {
        for (var i = 0; i < messages.Count; i++)
        {
            if (messages[i]?["content"] is JsonArray parts && parts.OfType<JsonObject>().FirstOrDefault(static p => p["type"]?.ToString() is not (null or "text") && !ReasoningFormat.IsReasoning(p)) is { } part)
            {
                throw new InvalidDataException($"message {i + 1} has a part of type '{part["type"]}'; only text is supported.");
            }
        }
    }

    private ChatTemplateInput Input(JsonArray messages, JsonNode? tools, bool addGenerationPrompt, JsonObject? values = null)
    {
        RequireText(messages);
        return new() { Messages = Reasoning.Placed(messages), Tools = tools, AddGenerationPrompt = addGenerationPrompt, SpecialTokens = _specialTokens, EndTokens = _endTokens, Variables = values };
    }
}

/// <summary>A rendered chat with its trained ranges, in characters.</summary>
/// <param name="Text">The text.</param>
/// <param name="Trained">The trained ranges, in order and without overlaps.</param>
/// <param name="TurnEnds">The positions after the assistant's turns, in order: where the chat may be truncated.</param>
internal sealed record ChatForTraining(string Text, IReadOnlyList<Range> Trained, IReadOnlyList<int> TurnEnds)
{
    /// <summary>Indexes of the messages that were rendered, from 0.</summary>
    public IReadOnlySet<int> Written { get; init; } = new HashSet<int>();
}

/// <summary>Which turns of a chat are trained.</summary>
/// <param name="All">Everything, including other roles' turns and the template's own text.</param>
/// <param name="LastAlone">Only the last turn of the assistant.</param>
/// <param name="Allows">Whether the row allows a message (by its index from 0; -1 for text outside messages) to be trained.</param>
internal sealed record TrainedTurns(bool All, bool LastAlone, Predicate<int> Allows)
{
    /// <summary>Whether the assistant's reasoning is trained; null to train it where it stands between tags, and not in a channel of its own.</summary>
    public bool? Reasoning { get; init; }
}
