using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>
/// How a chat template reads and writes the assistant's reasoning before its answer: between marks (<c>&lt;think&gt;</c> and others), or in a
/// channel of its own (gpt-oss).
/// </summary>
internal sealed partial class ReasoningFormat
{
    internal const string MessageStart = "<|start|>";
    internal const string Channel = "<|channel|>";
    internal const string BodyStart = "<|message|>";
    internal const string MessageEnd = "<|end|>";
    private const string AnalysisStart = Channel + "analysis";
    private const string TurnEnd = "<|return|>";

    /// <summary>The names that data sets have for the reasoning of a message.</summary>
    private static readonly string[] s_fields = ["reasoning_content", "thinking", "reasoning"];

    // Apriel's come first, whose template speaks of other tags too.
    private static readonly ReasoningMarks[] s_tags =
    [
        new("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
        new("<think>", "</think>"),
        new("<seed:think>", "</seed:think>"),
        new("<mm:think>", "</mm:think>"),
        new("<thinking>", "</thinking>"),
        new("[THINK]", "[/THINK]"),
        new("<|START_THINKING|>", "<|END_THINKING|>") { Around = ["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"] },
        new("<|channel>thought", "<channel|>"),
        new("<|inner_prefix|>", "<|inner_suffix|>"),
    ];

    // Reasoning as a message or an element beside that of the answer, by what the template has of it: Kimi K3, Solar Open, Muse.
    private static readonly (string Sign, ReasoningMarks Marks)[] s_messages =
    [
        ("open_tag('think')", new("<|open|>think<|sep|>", "<|close|>think<|sep|>") { Around = ["<|open|>response<|sep|>", "<|close|>response<|sep|>"], Ends = ["<|close|>message<|sep|>"] }),
        ("<|begin|>assistant<|think|>", new("<|think|>", "<|end|>") { Around = ["<|begin|>assistant<|content|>", "<|content|>"], Ends = ["<|end|>"] }),
        ("assistant to=self<|message|>", new(" to=self<|message|>", "<|eom|>") { Around = ["<|start|>assistant to=user<|message|>", " to=user<|message|>"], Ends = ["<|eot|>"] }),
    ];

    private readonly string[] _fields;
    private readonly bool _takesParts;
    private readonly bool _knowsTags;
    private readonly bool _endsTurns;
    private readonly bool _beginsInPrompt;

    private ReasoningFormat(string template)
    {
        var marks = Array.Find(s_messages, m => template.Contains(m.Sign, StringComparison.Ordinal)).Marks ?? Suffixed(template) ?? Array.Find(s_tags, t => template.Contains(t.Close, StringComparison.Ordinal));
        _knowsTags = marks is not null;
        Marks = marks ?? new("<think>", "</think>");
        HasChannels = template.Contains(AnalysisStart, StringComparison.Ordinal);
        _endsTurns = template.Contains(TurnEnd, StringComparison.Ordinal);
        IsSwitched = template.Contains("enable_thinking", StringComparison.Ordinal);

        // Apriel's template writes the beginning of a reasoning in the prompt alone; that of a message has to bring it.
        _beginsInPrompt = Marks == s_tags[0];
        _takesParts = ThinkingPart().IsMatch(template) && !template.Contains(s_fields[0], StringComparison.Ordinal);
        _fields = _takesParts ? [] : [.. s_fields.Where(f => IsRead(template, f))];
    }

    /// <summary>The marks around reasoning and answer.</summary>
    internal ReasoningMarks Marks { get; }

    /// <summary>The mark that begins a reasoning.</summary>
    internal string Open => Marks.Open;

    /// <summary>The mark that ends a reasoning.</summary>
    internal string Close => Marks.Close;

    /// <summary>Whether the template has marks around a reasoning.</summary>
    internal bool HasMarks => _knowsTags;

    /// <summary>Whether each message of an assistant stands in a channel: analysis, commentary or final.</summary>
    internal bool HasChannels { get; }

    /// <summary>Whether the template has the variable enable_thinking.</summary>
    internal bool IsSwitched { get; }

    /// <summary>Whether the template itself writes <see cref="Open"/> before the text of the last answer (Nemotron Nano v2).</summary>
    internal bool OpensAnswers { get; init; }

    // Whether the template writes a reasoning only as a part of the text of an answer, between tags.
    private bool IsInAnswers => _knowsTags && !TakesReasoning;

    private bool TakesReasoning => _fields.Length > 0 || _takesParts;

    /// <summary>The format of a template.</summary>
    /// <param name="template">The template's text.</param>
    public static ReasoningFormat Of(string template)
    {
        ArgumentNullException.ThrowIfNull(template);
        return new ReasoningFormat(template);
    }

    /// <summary>The format of a template, which is asked how it writes an answer.</summary>
    /// <param name="template">The template's text.</param>
    /// <param name="render">Renders messages.</param>
    internal static ReasoningFormat Of(string template, Func<JsonArray, string> render)
    {
        const string answer = "an answer";
        var format = Of(template);
        if (!format.IsInAnswers)
        {
            return format;
        }

        try
        {
            var text = render([new JsonObject { ["role"] = "user", ["content"] = "a question" }, new JsonObject { ["role"] = "assistant", ["content"] = answer }]);
            var at = text.LastIndexOf(answer, StringComparison.Ordinal);
            return at >= 0 && format.IsOpenAtEnd(text[..at]) ? new ReasoningFormat(template) { OpensAnswers = true } : format;
        }
        catch (ChatTemplateException)
        {
            return format;
        }
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

    /// <summary>An assistant's message in the form that the template reads.</summary>
    /// <param name="reasoning">The reasoning; null for none.</param>
    /// <param name="answer">The answer.</param>
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

    /// <summary>Whether a prompt ends inside a reasoning that it begins.</summary>
    internal bool IsOpenAtEnd(string prompt) => !HasChannels && prompt.AsSpan().TrimEnd().EndsWith(Open, StringComparison.Ordinal);

    /// <summary>The ranges of the reasoning in an assistant's turn, with its marks and the whitespace before the answer.</summary>
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
    /// The end of an earlier answer in a channel, at which serving does not stop; null for other formats.
    /// </summary>
    internal Range? EndWithoutStop(string text, Range turn) =>
        HasChannels && _endsTurns && text.AsSpan(turn).EndsWith(MessageEnd, StringComparison.Ordinal) ? (turn.End.Value - MessageEnd.Length)..turn.End.Value : null;

    // Hunyuan puts a name into each of its tags: <think:opensource>.
    private static ReasoningMarks? Suffixed(string template) =>
        SuffixedTag().Match(template) is { Success: true } tag && Regex.Match(template, $"set {tag.Groups[1].Value} = '([^']*)'", RegexOptions.CultureInvariant) is { Success: true } suffix
            ? new($"<think{suffix.Groups[1].Value}>", $"</think{suffix.Groups[1].Value}>")
            : null;

    [GeneratedRegex("""'</think\{\}>'\.format\((\w+)\)""", RegexOptions.CultureInvariant)]
    private static partial Regex SuffixedTag();

    private void PutInto(JsonObject message, string reasoning, string answer, bool asTags)
    {
        message["content"] = _takesParts
            ? new JsonArray([new JsonObject { ["type"] = "thinking", ["thinking"] = reasoning }, .. answer.Length > 0 ? [new JsonObject { ["type"] = "text", ["text"] = answer }] : Array.Empty<JsonNode>()])
            : !TakesReasoning && asTags ? $"{(OpensAnswers ? "" : Open + "\n")}{reasoning.Trim('\n')}\n{Close}\n\n{answer}"
            : answer;
        foreach (var field in s_fields)
        {
            _ = message.Remove(field);
        }

        foreach (var field in _fields)
        {
            message[field] = _beginsInPrompt && !reasoning.StartsWith(Open, StringComparison.Ordinal) ? $"{Open}\n{reasoning}" : reasoning;
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

/// <summary>The marks around reasoning and answer.</summary>
/// <param name="Open">The mark that begins a reasoning.</param>
/// <param name="Close">The mark that ends it.</param>
internal sealed record ReasoningMarks(string Open, string Close)
{
    /// <summary>Marks that begin and end the answer; they are not a part of it.</summary>
    internal IReadOnlyList<string> Around { get; init; } = [];

    /// <summary>Marks that end the assistant's turn, outside a reasoning.</summary>
    internal IReadOnlyList<string> Ends { get; init; } = [];
}
