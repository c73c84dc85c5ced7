namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>
/// Finds what of a rendered conversation the assistant has to produce: of each of its turns from after the prompt that serving would send
/// through the end-of-turn token.
/// </summary>
internal sealed class AssistantSpanFinder
{
    private readonly PromptRenderer prompts;
    private readonly TracedText text;
    private readonly TurnStartFinder starts;
    private readonly TurnEndFinder ends;
    private readonly SortedSet<string> warnings = new(StringComparer.Ordinal);

    /// <param name="prompts">Renders beginnings of the conversation.</param>
    /// <param name="text">The conversation, without a generation prompt.</param>
    /// <param name="beginToken">The tokenizer's beginning-of-sequence token; empty if there is none.</param>
    /// <param name="endTokens">The texts of the tokens that end a text, the tokenizer's first.</param>
    public AssistantSpanFinder(PromptRenderer prompts, TracedText text, string beginToken, IReadOnlyList<string> endTokens)
    {
        this.prompts = prompts;
        this.text = text;
        starts = new TurnStartFinder(prompts, text, warnings);
        ends = new TurnEndFinder(prompts, text, beginToken, endTokens, warnings);
    }

    public IReadOnlyList<string> Warnings => [.. warnings];

    /// <summary>What ends the last turn once another message follows, and is not written where it is the last.</summary>
    public string? MissingEnd => ends.Missing;

    /// <summary>The spans of all messages whose role is an assistant's, or of the last of them that the text has.</summary>
    /// <exception cref="TemplateFailure">It cannot be told for one of them.</exception>
    public List<ChatSpan> Find(IReadOnlyCollection<string> roles, bool lastAlone)
    {
        var turns = Enumerable.Range(0, prompts.MessageCount).Where(message => IsOf(roles, message)).ToList();
        var spans = new List<ChatSpan>();
        var done = new HashSet<int>();
        foreach (var message in lastAlone ? Enumerable.Reverse(turns) : turns)
        {
            if (!done.Contains(message))
            {
                AddSpansOf(spans, done, message, roles, isLast: message == turns[^1]);
            }

            if (lastAlone && spans.Count > 0)
            {
                break;
            }
        }

        return spans;
    }

    private void AddSpansOf(List<ChatSpan> spans, HashSet<int> done, int message, IReadOnlyCollection<string> roles, bool isLast)
    {
        try
        {
            var region = RegionOf(message, roles);
            if (region is not null)
            {
                done.UnionWith(region.Members);
                AddSpans(spans, region, prompts.RoleOf(message)!);
            }
        }
        catch (TemplateFailure failure)
        {
            var others = failure.Kind == ChatTemplateErrorKind.Spans && !isLast ? " or on the last answer alone (data.train_on: completion)" : "";
            throw new TemplateFailure(failure.Kind, $"message {message + 1} ({prompts.RoleOf(message)}): {failure.Message}{others}");
        }
    }

    private bool IsOf(IReadOnlyCollection<string> roles, int message) => prompts.RoleOf(message) is { } role && roles.Contains(role);

    private Region? RegionOf(int message, IReadOnlyCollection<string> roles)
    {
        var region = RegionFinder.Find(text, message);
        if (region is null)
        {
            return prompts.ContentOf(message) is { } content && text.Text.Contains(content, StringComparison.Ordinal)
                ? throw RegionFinder.Refusal("the template writes it in a way that cannot be followed")
                : null;
        }

        return Array.TrueForAll(region.Members, member => IsOf(roles, member))
            ? region
            : throw RegionFinder.Refusal("the template merges it with messages of other roles");
    }

    private void AddSpans(List<ChatSpan> spans, Region region, string role)
    {
        var start = starts.Find(region, role);
        var foreign = text.Content(start, region.End).Where(part => !region.Members.Contains(part.Message)).ToList();
        if (foreign.Count == 0)
        {
            var end = Math.Max(start, ends.Find(region, start));
            if (text.Content(start, end).Any(part => !region.Members.Contains(part.Message)))
            {
                throw ForeignText();
            }

            AddMembers(spans, region, start, end);
            return;
        }

        if (region.Members.Length > 1 || foreign.Exists(part => part.Message < region.Members[0]) || foreign[0].Start < region.ContentStart)
        {
            throw ForeignText();
        }

        AddAround(spans, region, start, foreign[0].Start, foreign[^1].End);
    }

    /// <summary>
    /// The spans of a turn into which the template writes the results of its tool calls: up to where the turn ended before there were any,
    /// and what the message says after them.
    /// </summary>
    private void AddAround(List<ChatSpan> spans, Region region, int start, int foreignStart, int foreignEnd)
    {
        var message = region.Members[0];
        var finished = prompts.TextOf(message + 1, withPrompt: false)
            ?? throw ForeignText();
        var common = Math.Min(finished.AsSpan().CommonPrefixLength(text.Text), foreignStart);
        var end = common == finished.Length ? common : TokenBoundary.Before(text.Text, common, start);
        if (!text.HasContent(start, end, region.Members))
        {
            throw ForeignText();
        }

        spans.Add(new ChatSpan(message, start, text.Text.AsSpan(0, end).TrimEnd().Length - start));
        var rest = text.Content(foreignEnd, region.End).ToList();
        if (rest.Count > 0)
        {
            var behind = region with { Start = rest[0].Start, ContentStart = rest[0].Start };
            spans.Add(new ChatSpan(message, behind.Start, ends.Find(behind, behind.Start) - behind.Start));
        }
    }

    private static TemplateFailure ForeignText() => RegionFinder.Refusal("the template writes text of other messages into its turn");

    /// <summary>One span for each message; merged messages part where the next one's text begins.</summary>
    private void AddMembers(List<ChatSpan> spans, Region region, int start, int last)
    {
        for (var i = 0; i < region.Members.Length; i++)
        {
            var end = last;
            if (i + 1 < region.Members.Length)
            {
                end = text.Content(start, last)
                    .Where(part => part.Message == region.Members[i + 1])
                    .Select(part => part.Start)
                    .DefaultIfEmpty(last)
                    .First();
            }

            spans.Add(new ChatSpan(region.Members[i], start, end - start));
            start = end;
        }
    }
}
