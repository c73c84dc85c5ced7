using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>
/// How a chat template takes and writes what an assistant reasons before it answers: between tags (<c>&lt;think&gt;</c>), or in a channel
/// of its own (gpt-oss).
/// </summary>
public sealed partial class ReasoningFormat
{
    internal const string MessageStart = "<|start|>";
    internal const string Channel = "<|channel|>";
    internal const string BodyStart = "<|message|>";
    internal const string MessageEnd = "<|end|>";
    private const string AnalysisStart = Channel + "analysis";
    private const string TurnEnd = "<|return|>";

    /// <summary>The names that data sets have for the reasoning of a message.</summary>
    private static readonly string[] s_fields = ["reasoning_content", "thinking", "reasoning"];

    private static readonly (string Open, string Close)[] s_tags =
    [
        ("<think>", "</think>"),
        ("<seed:think>", "</seed:think>"),
        ("<mm:think>", "</mm:think>"),
        ("<thinking>", "</thinking>"),
        ("[THINK]", "[/THINK]"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|channel>thought", "<channel|>"),
        ("<|inner_prefix|>", "<|inner_suffix|>"),
    ];

    private readonly string[] _fields;
    private readonly bool _takesParts;
    private readonly bool _knowsTags;
    private readonly bool _endsTurns;

    private ReasoningFormat(string template)
    {
        var tags = Suffixed(template) ?? Array.Find(s_tags, t => template.Contains(t.Close, StringComparison.Ordinal));
        _knowsTags = tags.Open is not null;
        (Open, Close) = _knowsTags ? tags : s_tags[0];
        HasChannels = template.Contains(AnalysisStart, StringComparison.Ordinal);
        _endsTurns = template.Contains(TurnEnd, StringComparison.Ordinal);
        IsSwitched = template.Contains("enable_thinking", StringComparison.Ordinal);
        _takesParts = ThinkingPart().IsMatch(template) && !template.Contains(s_fields[0], StringComparison.Ordinal);
        _fields = _takesParts ? [] : [.. s_fields.Where(f => IsRead(template, f))];
    }

    /// <summary>The tag that begins a reasoning.</summary>
    internal string Open { get; }

    /// <summary>The tag that ends a reasoning.</summary>
    internal string Close { get; }

    /// <summary>Whether each message of an assistant stands in a channel: analysis, commentary or final.</summary>
    internal bool HasChannels { get; }

    /// <summary>Whether the template has the variable enable_thinking.</summary>
    internal bool IsSwitched { get; }

    private bool TakesReasoning => _fields.Length > 0 || _takesParts;

    /// <summary>The format of a template.</summary>
    /// <param name="template">The template's text.</param>
    public static ReasoningFormat Of(string template)
    {
        ArgumentNullException.ThrowIfNull(template);
        return new ReasoningFormat(template);
    }

    /// <summary>Whether a part of a message's content is reasoning.</summary>
    internal static bool IsReasoning(JsonNode? part) => part is JsonObject map && Text(map["type"]) is "thinking" or "reasoning";

    /// <summary>The text of such a part: Anthropic's and Mistral's have "thinking", others "reasoning" or "text"; it may be a list of texts.</summary>
    internal static string TextOf(JsonNode part) => (part["thinking"] ?? part["reasoning"] ?? part["text"]) switch
    {
        JsonArray texts => string.Concat(texts.Select(static t => Text((t as JsonObject)?["text"]) ?? Text(t) ?? "")),
        var one => Text(one) ?? "",
    };

    /// <summary>The reasoning of a message, from any of the names that it has in data sets; null if it has none.</summary>
    internal static string? FieldOf(JsonObject message) =>
        s_fields.Select(f => Text(message[f])).FirstOrDefault(static t => !string.IsNullOrWhiteSpace(t));

    /// <summary>A message of the assistant, as the template takes it.</summary>
    /// <param name="reasoning">What it reasoned; null for nothing.</param>
    /// <param name="answer">What it answered.</param>
    public JsonObject Message(string? reasoning, string answer)
    {
        var message = new JsonObject { ["role"] = "assistant", ["content"] = answer };
        if (!string.IsNullOrWhiteSpace(reasoning))
        {
            message[s_fields[0]] = reasoning;
            if (!TakesReasoning)
            {
                PutInto(message, reasoning, answer, asTags: true);
            }
        }

        return message;
    }

    /// <summary>
    /// The messages with the reasoning of each where the template reads it: under its name, as a part of the content, or between tags in
    /// the content.
    /// </summary>
    internal JsonArray Placed(JsonArray messages)
    {
        if (!messages.Any(static m => Split(m) is not null))
        {
            return messages;
        }

        var placed = messages.DeepClone().AsArray();
        foreach (var message in placed)
        {
            if (Split(message) is var (reasoning, answer))
            {
                PutInto(message!.AsObject(), reasoning, answer, asTags: _knowsTags);
            }
        }

        return placed;
    }

    /// <summary>The reasoning of the assistant's messages by their places, from 0.</summary>
    internal static IEnumerable<(int Message, string Reasoning)> ReasoningOf(JsonArray messages)
    {
        for (var i = 0; i < messages.Count; i++)
        {
            if (Split(messages[i]) is var (reasoning, _))
            {
                yield return (i, reasoning.Trim());
            }
        }
    }

    /// <summary>A message's text without its reasoning.</summary>
    internal static string AnswerOf(string content) => Inline(content)?.Answer ?? content;

    /// <summary>Where a prompt ends inside a reasoning that it has begun.</summary>
    internal bool IsOpenAtEnd(string prompt) => !HasChannels && prompt.AsSpan().TrimEnd().EndsWith(Open, StringComparison.Ordinal);

    /// <summary>The reasoning in a turn that the assistant has to write, with its tags and what stands between it and the answer.</summary>
    internal IEnumerable<Range> In(string text, Range turn)
    {
        var (start, end) = (turn.Start.Value, turn.End.Value);
        if (HasChannels)
        {
            for (var at = Find(text, AnalysisStart, start, end); at >= 0; at = Find(text, AnalysisStart, at + 1, end))
            {
                var close = Find(text, MessageEnd, at, end);
                yield return at..(close < 0 ? end : close + MessageEnd.Length);
            }

            yield break;
        }

        var closing = Find(text, Close, start, end);
        var opening = Find(text, Open, start, end);
        if (closing < 0 || (opening < 0 || opening > closing) && !IsOpenAtEnd(text[..start]))
        {
            yield break;
        }

        var after = closing + Close.Length;
        while (after < end && char.IsWhiteSpace(text[after]))
        {
            after++;
        }

        yield return (opening < 0 || opening > closing ? start : opening)..after;
    }

    /// <summary>
    /// The end of an earlier answer where the template writes the one of a message in a channel, at which serving does not stop; null
    /// elsewhere.
    /// </summary>
    internal Range? EndWithoutStop(string text, Range turn) =>
        HasChannels && _endsTurns && text.AsSpan(turn).EndsWith(MessageEnd, StringComparison.Ordinal) ? (turn.End.Value - MessageEnd.Length)..turn.End.Value : null;

    // Hunyuan puts a name into each of its tags: <think:opensource>.
    private static (string Open, string Close)? Suffixed(string template) =>
        SuffixedTag().Match(template) is { Success: true } tag && Regex.Match(template, $"set {tag.Groups[1].Value} = '([^']*)'", RegexOptions.CultureInvariant) is { Success: true } suffix
            ? ($"<think{suffix.Groups[1].Value}>", $"</think{suffix.Groups[1].Value}>")
            : null;

    [GeneratedRegex("""'</think\{\}>'\.format\((\w+)\)""", RegexOptions.CultureInvariant)]
    private static partial Regex SuffixedTag();

    private void PutInto(JsonObject message, string reasoning, string answer, bool asTags)
    {
        message["content"] = _takesParts
            ? new JsonArray([new JsonObject { ["type"] = "thinking", ["thinking"] = reasoning }, .. answer.Length > 0 ? [new JsonObject { ["type"] = "text", ["text"] = answer }] : Array.Empty<JsonNode>()])
            : !TakesReasoning && asTags ? $"{Open}\n{reasoning.Trim('\n')}\n{Close}\n\n{answer}"
            : answer;
        foreach (var field in s_fields)
        {
            _ = message.Remove(field);
        }

        foreach (var field in _fields)
        {
            message[field] = reasoning;
        }
    }

    // A message's reasoning and answer, if it has a reasoning that has to be put where the template reads it.
    private static (string Reasoning, string Answer)? Split(JsonNode? node)
    {
        if (node is not JsonObject message || Text(message["role"]) != "assistant")
        {
            return null;
        }

        var parts = message["content"] as JsonArray;
        var answer = parts is null ? Text(message["content"]) ?? "" : string.Concat(parts.Where(static p => !IsReasoning(p)).Select(static p => Text((p as JsonObject)?["text"]) ?? ""));
        var reasoning = FieldOf(message) ?? string.Concat((parts ?? []).Where(IsReasoning).Select(static p => TextOf(p!)));
        return reasoning.Length > 0 ? (reasoning, answer) : Inline(answer);
    }

    // A text that begins with a reasoning between tags.
    private static (string Reasoning, string Answer)? Inline(string text)
    {
        foreach (var (open, close) in s_tags)
        {
            var begin = text.AsSpan().TrimStart();
            if (begin.StartsWith(open, StringComparison.Ordinal) && begin.IndexOf(close, StringComparison.Ordinal) is > 0 and var end)
            {
                return (begin[open.Length..end].Trim().ToString(), begin[(end + close.Length)..].TrimStart('\n').ToString());
            }
        }

        return null;
    }

    private static int Find(string text, string part, int start, int end) => start >= end ? -1 : text.IndexOf(part, start, end - start, StringComparison.Ordinal);

    private static bool IsRead(string template, string field) => field == s_fields[0]
        ? template.Contains(field, StringComparison.Ordinal)
        : Regex.IsMatch(template, $"""\.{field}\b|\[['"]{field}['"]\]|['"]{field}['"]\s+in\b|get\(['"]{field}['"]""", RegexOptions.CultureInvariant);

    [GeneratedRegex("""type(['"]\])?\s*==\s*['"]thinking['"]""", RegexOptions.CultureInvariant)]
    private static partial Regex ThinkingPart();

    private static string? Text(JsonNode? node) => node is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;
}
