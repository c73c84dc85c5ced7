namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>
/// Finds what of a rendered conversation the assistant has to produce. A turn begins where the prompt that serving would send ends, if
/// the conversation begins with that prompt; else (templates render earlier turns differently once there are later ones) behind the
/// turn's header, which is what it has in common with the generation prompt. It ends with the end-of-turn token.
/// </summary>
internal sealed class AssistantSpanFinder
{
    private const string NoPrompt =
        "the template writes a header before the assistant's text but no generation prompt, so the header is not trained and serving does "
        + "not send it; add one to the template: {% if add_generation_prompt %}...{% endif %}";

    private const string OtherPrompt =
        "some assistant turns do not follow exactly the prompt that serving would send: the template writes its generation prompt, earlier "
        + "turns or tools differently there";

    private const string NoEnd =
        "the template writes nothing that ends the assistant's turn behind its text, so training on it does not teach the model to stop";

    private const string LeftOut =
        "the template leaves out some assistant messages or their tool calls: what is trained there is not what the data says";

    private readonly PromptRenderer prompts;
    private readonly TracedText text;
    private readonly string endToken;
    private readonly SortedSet<string> warnings = new(StringComparer.Ordinal);

    /// <param name="prompts">Renders beginnings of the conversation.</param>
    /// <param name="text">The conversation, without a generation prompt.</param>
    /// <param name="endToken">The tokenizer's end-of-sequence token; empty if there is none.</param>
    public AssistantSpanFinder(PromptRenderer prompts, TracedText text, string endToken)
    {
        this.prompts = prompts;
        this.text = text;
        this.endToken = string.IsNullOrWhiteSpace(endToken) ? string.Empty : endToken;
    }

    public IReadOnlyList<string> Warnings => [.. warnings];

    /// <summary>The spans of all messages whose role is an assistant's.</summary>
    /// <exception cref="TemplateFailure">It cannot be told for one of them.</exception>
    public List<ChatSpan> Find(IReadOnlyCollection<string> roles)
    {
        var spans = new List<ChatSpan>();
        var done = new HashSet<int>();
        for (var message = 0; message < prompts.MessageCount; message++)
        {
            if (prompts.RoleOf(message) is not { } role || !roles.Contains(role) || done.Contains(message))
            {
                continue;
            }

            try
            {
                var region = RegionOf(message, roles);
                NoteLeftOut(message, region);
                if (region is not null)
                {
                    done.UnionWith(region.Members);
                    AddSpans(spans, region, SpanOf(region, role));
                }
            }
            catch (TemplateFailure failure)
            {
                throw new TemplateFailure(failure.Kind, $"message {message + 1} ({role}): {failure.Message}");
            }
        }

        return spans;
    }

    private Region? RegionOf(int message, IReadOnlyCollection<string> roles)
    {
        var region = RegionFinder.Find(text, message);
        if (region is null)
        {
            return prompts.ContentOf(message) is { } content && text.Text.Contains(content, StringComparison.Ordinal)
                ? throw RegionFinder.Refusal("the template writes it in a way that cannot be followed")
                : null;
        }

        return Array.TrueForAll(region.Members, member => prompts.RoleOf(member) is { } role && roles.Contains(role))
            ? region
            : throw RegionFinder.Refusal("the template merges it with messages of other roles");
    }

    private void NoteLeftOut(int message, Region? region)
    {
        var written = region is null ? string.Empty : text.Text[region.Start..region.End];
        if (region is null || prompts.CalledBy(message).Any(name => !written.Contains(name, StringComparison.Ordinal)))
        {
            _ = warnings.Add(LeftOut);
        }
    }

    private (int Start, int End) SpanOf(Region region, string role)
    {
        var start = StartOf(region, role);
        var end = Math.Max(start, EndOf(region, start));
        if (text.Content(start, end).Any(part => !region.Members.Contains(part.Message)))
        {
            throw RegionFinder.Refusal("the template writes text of other messages into its turn");
        }

        return (start, end);
    }

    private int StartOf(Region region, string role)
    {
        var count = region.Members[0];
        var prompt = prompts.Beginning(count, withPrompt: true, isTraced: false)?.Output.Build().Value;
        if (prompt is not null && prompt.Length <= region.End && text.Text.StartsWith(prompt, StringComparison.Ordinal))
        {
            return AfterPrompt(region, role, prompt);
        }

        _ = warnings.Add(OtherPrompt);
        if (!HasHeader(region, region.Start))
        {
            return region.Start;
        }

        if (region.IsShared)
        {
            throw RegionFinder.Refusal("the template writes it into the turn of another message");
        }

        return GenerationPrompt(count) is { } header ? AfterHeader(region, header) : AfterPlainHeader(region, role);
    }

    private int AfterPrompt(Region region, string role, string prompt)
    {
        var start = prompt.Length;
        if (start > region.Start || (start == region.Start && !HasHeader(region, start)))
        {
            return start;
        }

        if (start == region.Start)
        {
            return AfterHeaderWithoutPrompt(region, role, prompt);
        }

        // The turn before ends differently once there is a next one: with a blank that serving leaves to the model, or with a header.
        if (RegionFinder.IsBlank(text, start, region.Start) && !text.Content(start, region.Start).Any())
        {
            return start;
        }

        _ = warnings.Add(NoPrompt);
        return region.Start;
    }

    /// <summary>Whether the template wrote something visible before the messages' own text.</summary>
    private bool HasHeader(Region region, int start) =>
        start < region.ContentStart && !RegionFinder.IsBlank(text, start, region.ContentStart);

    /// <summary>
    /// The start of a turn that begins with visible text of the template although the prompt ends before it. That is for the model to
    /// produce (<c>[TOOL_CALLS]</c>), unless it is the header of a template that has no generation prompt.
    /// </summary>
    private int AfterHeaderWithoutPrompt(Region region, string role, string prompt)
    {
        var plain = prompts.Beginning(region.Members[0], withPrompt: false, isTraced: false)?.Output.Build().Value;
        return plain == prompt ? AfterPlainHeader(region, role) : region.Start;
    }

    private int AfterPlainHeader(Region region, string role)
    {
        var probe = prompts.Plain(region.Members[0], role);
        if (probe is null || RegionFinder.Find(probe, region.Members[0]) is not { } plain
            || plain.ContentStart <= plain.Start || RegionFinder.IsBlank(probe, plain.Start, plain.ContentStart))
        {
            return region.Start;
        }

        _ = warnings.Add(NoPrompt);
        return AfterHeader(region, probe.Text[plain.Start..plain.ContentStart]);
    }

    private int AfterHeader(Region region, string header)
    {
        var lead = text.Text[region.Start..Math.Max(region.Start, region.ContentStart)];
        var length = HeaderMatcher.Match(lead, header);
        return length >= 0
            ? region.Start + length
            : throw RegionFinder.Refusal("its turn does not begin like the template's generation prompt");
    }

    /// <summary>What the template writes to begin the assistant's turn after the first messages; null if it is blank.</summary>
    private string? GenerationPrompt(int count)
    {
        var with = prompts.Beginning(count, withPrompt: true, isTraced: true);
        var without = prompts.Beginning(count, withPrompt: false, isTraced: false);
        if (with is null || without is null)
        {
            with = prompts.Beginning(prompts.MessageCount, withPrompt: true, isTraced: true);
            without = prompts.Beginning(prompts.MessageCount, withPrompt: false, isTraced: false);
        }

        if (with is null || without is null)
        {
            return null;
        }

        var prompted = new TracedText(with);
        var plain = without.Output.Build().Value;
        var common = prompted.Text.AsSpan().CommonPrefixLength(plain);
        var begin = common == plain.Length ? common : prompted.BoundaryBefore(common);
        var prompt = prompted.Text[begin..];
        if (string.IsNullOrWhiteSpace(prompt))
        {
            prompt = prompted.Text[prompted.EndOfTurns..];
        }

        return string.IsNullOrWhiteSpace(prompt) ? null : prompt;
    }

    /// <summary>Behind the end-of-turn token, or behind the messages' own text if the template writes none.</summary>
    private int EndOf(Region region, int start)
    {
        var tail = Math.Max(region.ContentEnd, start);
        var after = text.Text.AsSpan(tail, Math.Max(0, region.End - tail));
        var token = endToken.Length == 0 ? -1 : after.IndexOf(endToken, StringComparison.Ordinal);
        if (token >= 0)
        {
            return tail + token + endToken.Length;
        }

        if (!after.IsWhiteSpace())
        {
            return region.IsShared && region.End < text.Text.Length && text.Content(region.End, region.End + 1).Any()
                ? throw RegionFinder.Refusal("the template writes it into the turn of another message, without the tokenizer's end token behind it")
                : tail + after.TrimEnd().Length;
        }

        var rest = text.Text.AsSpan(tail);
        var blank = rest.Length - rest.TrimStart().Length;
        if (endToken.Length > 0 && rest[blank..].StartsWith(endToken, StringComparison.Ordinal)
            && !text.Content(tail, tail + blank + endToken.Length).Any())
        {
            return tail + blank + endToken.Length;
        }

        _ = warnings.Add(NoEnd);
        return tail;
    }

    /// <summary>One span for each message; merged messages part where the next one's text begins.</summary>
    private void AddSpans(List<ChatSpan> spans, Region region, (int Start, int End) span)
    {
        var start = span.Start;
        for (var i = 0; i < region.Members.Length; i++)
        {
            var end = span.End;
            if (i + 1 < region.Members.Length)
            {
                end = text.Content(start, span.End)
                    .Where(part => part.Message == region.Members[i + 1])
                    .Select(part => part.Start)
                    .DefaultIfEmpty(span.End)
                    .First();
            }

            spans.Add(new ChatSpan(region.Members[i], start, end - start));
            start = end;
        }
    }
}
