namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>
/// Finds where in a turn the assistant's own text begins: where the prompt that serving would send ends, if the conversation begins with
/// that prompt; else where the two part, if that is in the turn's header; else (templates render earlier turns differently once there are
/// later ones) after the turn's header, which is what it has in common with the generation prompt.
/// </summary>
internal sealed class TurnStartFinder(PromptRenderer prompts, TracedText text, ISet<string> warnings)
{
    private const int MaxPromptsTried = 4;

    private string? anyPrompt;
    private bool isAnyPromptKnown;

    /// <exception cref="TemplateFailure">It cannot be told.</exception>
    public int Find(Region region, string role)
    {
        var count = region.Members[0];
        var prompt = prompts.TextOf(count, withPrompt: true);
        if (prompt is not null && prompt.Length <= region.End && text.Text.StartsWith(prompt, StringComparison.Ordinal))
        {
            return AfterPrompt(region, role, prompt);
        }

        _ = warnings.Add(SpanWarnings.OtherPrompt);
        var parting = region.IsShared || prompt is null ? null : Parting(region, prompt);
        if (parting is { } inHeader)
        {
            return inHeader;
        }

        if (!HasHeader(region, region.Start))
        {
            return region.Start;
        }

        if (region.IsShared)
        {
            throw RegionFinder.Refusal("the template writes it into the turn of another message");
        }

        if ((GenerationPrompt(count) ?? AnyGenerationPrompt()) is not { } header)
        {
            return AfterPlainHeader(region, role);
        }

        var length = HeaderMatcher.Match(LeadOf(region), header);
        return length >= 0 ? region.Start + length : WithoutHeader(region, role, prompt) ?? throw OtherHeader();
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

        if (KnownHeader(region) is { } behind)
        {
            return behind;
        }

        _ = warnings.Add(SpanWarnings.NoPrompt);
        return region.Start;
    }

    /// <summary>Whether the template wrote something visible before the messages' own text.</summary>
    private bool HasHeader(Region region, int start) =>
        start < region.ContentStart && !RegionFinder.IsBlank(text, start, region.ContentStart);

    /// <summary>
    /// Where the text parts from the prompt for a turn, if all that differs is what the turn begins with: the prompt opens a reasoning
    /// that the turn does not have, for example. Null if they part before the turn, or if they have nothing of a header in common.
    /// </summary>
    private int? Parting(Region region, string prompt)
    {
        var floor = text.EndOfOthersBefore(region);
        var common = Math.Min(prompt.AsSpan().CommonPrefixLength(text.Text), region.ContentStart);
        if (common < floor)
        {
            return null;
        }

        var at = IsPieceEnd(prompt, common) && IsPieceEnd(text.Text, common) ? common : TokenBoundary.Before(text.Text, common, floor);
        if (at == region.ContentStart)
        {
            return at;
        }

        if (prompts.TextOf(region.Members[0], withPrompt: false) is not { } plain)
        {
            return null;
        }

        var header = Math.Max(floor, prompt.AsSpan().CommonPrefixLength(plain));
        if (at > header && !RegionFinder.IsBlank(text, header, at))
        {
            // Templates on indented lines write other white space after the prompt than after a turn's header.
            return at < prompt.Length && char.IsWhiteSpace(prompt[at]) ? SkipSpace(at, region.ContentStart) : at;
        }

        return null;
    }

    private int SkipSpace(int at, int end)
    {
        while (at < end && char.IsWhiteSpace(text.Text[at]))
        {
            at++;
        }

        return at;
    }

    private static string Letters(ReadOnlySpan<char> value)
    {
        var letters = new System.Text.StringBuilder();
        foreach (var c in value)
        {
            if (char.IsLetter(c))
            {
                _ = letters.Append(c);
            }
        }

        return letters.ToString();
    }

    /// <summary>Whether what stands before a position cannot go on after it: white space or a tag begins there, or the text ends.</summary>
    private static bool IsPieceEnd(string value, int at) => at == value.Length || char.IsWhiteSpace(value[at]) || value[at] == '<';

    /// <summary>
    /// The start of a turn that begins with visible text of the template although the prompt ends before it. That is for the model to
    /// produce (<c>[TOOL_CALLS]</c>), unless it is the header of a template that has no generation prompt, or has none just there (after
    /// another turn of the assistant).
    /// </summary>
    private int AfterHeaderWithoutPrompt(Region region, string role, string prompt)
    {
        var plain = prompts.TextOf(region.Members[0], withPrompt: false);
        return plain != prompt ? region.Start : KnownHeader(region) ?? AfterPlainHeader(region, role);
    }

    private int AfterPlainHeader(Region region, string role)
    {
        var probe = prompts.Plain(region.Members[0], role);
        if (probe is null || RegionFinder.Find(probe, region.Members[0]) is not { } plain
            || plain.ContentStart <= plain.Start || RegionFinder.IsBlank(probe, plain.Start, plain.ContentStart))
        {
            return region.Start;
        }

        _ = warnings.Add(SpanWarnings.NoPrompt);
        return AfterHeader(region, probe.Text[plain.Start..plain.ContentStart]);
    }

    private int AfterHeader(Region region, string header)
    {
        var length = HeaderMatcher.Match(LeadOf(region), header);
        return length >= 0
            ? region.Start + length
            : throw OtherHeader();
    }

    private static TemplateFailure OtherHeader() => RegionFinder.Refusal("its turn does not begin like the template's generation prompt");

    /// <summary>
    /// The start of a turn that goes on with an earlier one (after the results of its tool calls): even before a plain message the
    /// template writes no header there, or only the end of a reasoning that the prompt writes whole. Null if it writes another header.
    /// </summary>
    private int? WithoutHeader(Region region, string role, string? prompt)
    {
        var count = region.Members[0];
        if (prompts.TextOf(count, withPrompt: false) is not { } before
            || prompts.Plain(count, role) is not { } probe
            || RegionFinder.Find(probe, count) is not { } plain
            || !probe.Text.StartsWith(before, StringComparison.Ordinal)
            || plain.ContentStart < before.Length)
        {
            return null;
        }

        prompt = prompt?.StartsWith(before, StringComparison.Ordinal) == true ? prompt : before;
        var lead = probe.Text[before.Length..plain.ContentStart];
        if (!string.IsNullOrWhiteSpace(lead)
            && !(text.Text.StartsWith(before + lead, StringComparison.Ordinal)
                && Letters(lead) is { Length: > 0 } tag && Letters(prompt.AsSpan(before.Length)).Contains(tag, StringComparison.Ordinal)))
        {
            return null;
        }

        var floor = text.EndOfOthersBefore(region);
        var common = Math.Min(prompt.AsSpan().CommonPrefixLength(text.Text), region.ContentStart);
        return common < floor ? null : TokenBoundary.Before(text.Text, common, floor);
    }

    /// <summary>After the header that the template's generation prompt writes elsewhere; null if the turn does not begin with it.</summary>
    private int? KnownHeader(Region region)
    {
        if (!HasHeader(region, region.Start) || AnyGenerationPrompt() is not { } header)
        {
            return null;
        }

        var length = HeaderMatcher.Match(LeadOf(region), header);
        if (length < 0)
        {
            return null;
        }

        _ = warnings.Add(SpanWarnings.OtherPrompt);
        return region.Start + length;
    }

    private string LeadOf(Region region) => text.Text[region.Start..Math.Max(region.Start, region.ContentStart)];

    /// <summary>What the template writes to begin the assistant's turn after the first messages; null if it is blank.</summary>
    private string? GenerationPrompt(int count) => GenerationPrompt(count, out _);

    /// <param name="count">How many messages.</param>
    /// <param name="isExact">Whether the text without it goes on with it.</param>
    private string? GenerationPrompt(int count, out bool isExact)
    {
        isExact = false;
        if (prompts.TextOf(count, withPrompt: true) is not { } whole || prompts.TextOf(count, withPrompt: false) is not { } plain)
        {
            return null;
        }

        var common = whole.AsSpan().CommonPrefixLength(plain);
        isExact = common == plain.Length;
        if (isExact && !string.IsNullOrWhiteSpace(whole[common..]))
        {
            return whole[common..];
        }

        // Where the text's parts come from is asked for only here: it takes longer.
        var prompted = new TracedText(prompts.Beginning(count, withPrompt: true, isTraced: true)!);
        var prompt = prompted.Text[(isExact ? common : prompted.BoundaryBefore(common))..];
        if (string.IsNullOrWhiteSpace(prompt) && prompted.EndOfTurns > 0)
        {
            prompt = prompted.Text[prompted.EndOfTurns..];
        }

        return string.IsNullOrWhiteSpace(prompt) ? null : prompt;
    }

    /// <summary>What the template writes to begin the assistant's turn after one of the longest beginnings of the conversation.</summary>
    private string? AnyGenerationPrompt()
    {
        if (isAnyPromptKnown)
        {
            return anyPrompt;
        }

        isAnyPromptKnown = true;
        var least = Math.Max(1, prompts.MessageCount - MaxPromptsTried + 1);
        for (var count = prompts.MessageCount; count >= least; count--)
        {
            var prompt = GenerationPrompt(count, out var isExact);
            anyPrompt ??= prompt;
            if (isExact && prompt is not null)
            {
                anyPrompt = prompt;
                break;
            }
        }

        return anyPrompt;
    }
}
