namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>
/// Finds where what the assistant produces in a turn ends: after the end-of-turn token, wherever the template writes that (with the turn,
/// before the next one, at the end of the text), or after the messages' own text if it writes none.
/// </summary>
internal sealed class TurnEndFinder
{
    private readonly PromptRenderer prompts;
    private readonly TracedText text;
    private readonly string beginToken;
    private readonly string[] endTokens;
    private readonly ISet<string> warnings;
    private bool isEndWritten;

    /// <param name="prompts">Renders beginnings of the conversation.</param>
    /// <param name="text">The conversation, without a generation prompt.</param>
    /// <param name="beginToken">The tokenizer's beginning-of-sequence token; empty if there is none.</param>
    /// <param name="endTokens">The texts of the tokens that end a text; those that are blank do not count.</param>
    /// <param name="warnings">Gets sentences about the template.</param>
    public TurnEndFinder(PromptRenderer prompts, TracedText text, string beginToken, IReadOnlyList<string> endTokens, ISet<string> warnings)
    {
        this.prompts = prompts;
        this.text = text;
        this.beginToken = beginToken.Trim();
        this.endTokens = [.. endTokens.Where(token => !string.IsNullOrWhiteSpace(token)).Distinct()];
        this.warnings = warnings;
    }

    /// <summary>What ends the last turn once another message follows, and is not written where the turn ends the text; null if nothing is missing.</summary>
    public string? Missing { get; private set; }

    /// <param name="region">The turn.</param>
    /// <param name="start">Where the assistant's text begins in it.</param>
    /// <exception cref="TemplateFailure">It cannot be told.</exception>
    public int Find(Region region, int start)
    {
        var tail = Math.Max(region.ContentEnd, start);
        if (EndToken(region, tail) is { } token)
        {
            return token;
        }

        var after = text.Text.AsSpan(tail, Math.Max(0, region.End - tail));
        if (!after.IsWhiteSpace())
        {
            // What closes a tool call or a reasoning says nothing of how an answer ends.
            var calls = prompts.CalledBy(region.Members[^1]).Any();
            isEndWritten |= region.ContentEnd > region.ContentStart && !calls;
            Missing = calls ? EndBeforeAnother(region, "tool", after.TrimEnd().ToString()) : null;
            return region.IsShared && region.End < text.Text.Length && text.Content(region.End, region.End + 1).Any()
                ? throw RegionFinder.Refusal("the template writes it into the turn of another message, without the tokenizer's end token after it")
                : tail + after.TrimEnd().Length;
        }

        if (!region.IsShared && (EndBeforeNextTurn(region, tail) ?? EndOfText(region, tail)) is { } end)
        {
            isEndWritten = true;
            return end;
        }

        Missing = EndBeforeAnother(region, "user", closing: "");
        if (Missing is not null)
        {
            return tail;
        }

        _ = warnings.Add(isEndWritten && text.EndOfTurns <= region.End ? SpanWarnings.NoLastEnd : SpanWarnings.NoEnd);
        return tail;
    }

    /// <summary>After the first of the end tokens, in the turn or directly after it.</summary>
    private int? EndToken(Region region, int tail)
    {
        var end = Math.Max(tail, region.End);
        var after = text.Text.AsSpan(tail, end - tail);
        var found = endTokens.Select(token => (At: text.Text.IndexOf(token, tail, end - tail, StringComparison.Ordinal), token.Length))
            .Where(token => token.At >= 0)
            .OrderBy(token => token.At)
            .ToList();
        if (found.Count > 0)
        {
            return found[0].At + found[0].Length;
        }

        // What closes a tool call is no end of turn, other words of the template are one: then a token after them is not the model's.
        var blankTail = after.IsWhiteSpace();
        if (!blankTail && !prompts.CalledBy(region.Members[^1]).Any())
        {
            return null;
        }

        var from = blankTail ? tail : end;
        var rest = text.Text.AsSpan(from);
        var blank = rest.Length - rest.TrimStart().Length;
        foreach (var token in endTokens)
        {
            if (rest[blank..].StartsWith(token, StringComparison.Ordinal) && !text.Content(from, from + blank + token.Length).Any())
            {
                return from + blank + token.Length;
            }
        }

        return null;
    }

    /// <summary>
    /// What ends the last turn of the conversation once a message of a role follows it, after what closes it here; null if nothing does,
    /// or if the turn is not the last, or the template takes no such message.
    /// </summary>
    private string? EndBeforeAnother(Region region, string role, string closing)
    {
        var last = region.Members[^1];
        if (last != prompts.MessageCount - 1 || region.IsShared || !RegionFinder.IsBlank(text, region.End, text.Text.Length))
        {
            return null;
        }

        var longer = prompts.With(role);
        try
        {
            var followed = new TracedText(longer.Conversation(withPrompt: false, isTraced: true));
            if (RegionFinder.Find(followed, last) is not { IsShared: false } turn || turn.ContentStart == turn.ContentEnd)
            {
                return null;
            }

            var written = turn.ContentEnd + closing.Length;
            if (!followed.Text.AsSpan(turn.ContentEnd).StartsWith(closing, StringComparison.Ordinal))
            {
                return null;
            }

            var end = new TurnEndFinder(longer, followed, beginToken, endTokens, new HashSet<string>()).Find(turn, turn.ContentStart);
            return end > written ? followed.Text[written..end] : null;
        }
        catch (Exception failure) when (failure is TemplateFailure or ChatTemplateException)
        {
            return null;
        }
    }

    /// <summary>
    /// The end of a turn that is written as the beginning of the next one, which it tells by what the next one's role writes there where
    /// no turn of the assistant comes before it; null if it writes the same.
    /// </summary>
    private int? EndBeforeNextTurn(Region region, int tail)
    {
        var next = region.Members[^1] + 1;
        if (next >= prompts.MessageCount || Lead(text, next) is not { } lead || !RegionFinder.IsBlank(text, tail, Math.Max(tail, lead.Start)))
        {
            return null;
        }

        var written = text.Text[lead.Start..lead.ContentStart];
        if (UsualLead(region, next) is not { } usual || string.IsNullOrWhiteSpace(usual) || !written.EndsWith(usual, StringComparison.Ordinal))
        {
            return null;
        }

        var end = written[..^usual.Length].TrimEnd();
        return string.IsNullOrWhiteSpace(end) || end.Trim() == beginToken ? null : lead.Start + end.Length;
    }

    /// <summary>What the template writes before the text of a message of this role where no turn of the assistant comes before it.</summary>
    private string? UsualLead(Region region, int message)
    {
        var role = prompts.RoleOf(message);
        for (var other = 0; other < prompts.MessageCount; other++)
        {
            if (prompts.RoleOf(other) == role && (other == 0 || prompts.RoleOf(other - 1) != prompts.RoleOf(region.Members[^1])))
            {
                return Lead(text, other) is { } usual ? text.Text[usual.Start..usual.ContentStart] : null;
            }
        }

        return role is not null && prompts.Plain(0, role) is { } probe && Lead(probe, 0) is { } plain
            ? probe.Text[plain.Start..plain.ContentStart]
            : null;
    }

    /// <summary>The end of the last turn where only the template's own text follows, which it does not write without that turn; else null.</summary>
    private int? EndOfText(Region region, int tail)
    {
        if (text.EndOfTurns > region.End || string.IsNullOrWhiteSpace(text.Text[tail..]))
        {
            return null;
        }

        var count = region.Members[0];
        while (count > 0 && prompts.RoleOf(count - 1) == prompts.RoleOf(region.Members[0]))
        {
            count--;
        }

        var rest = text.Text[tail..].TrimEnd();
        var without = prompts.TextOf(count, withPrompt: false);
        return without is not null && !without.AsSpan().TrimEnd().EndsWith(rest.AsSpan().TrimStart(), StringComparison.Ordinal)
            ? tail + rest.Length
            : null;
    }

    private static Region? Lead(TracedText text, int message)
    {
        try
        {
            return RegionFinder.Find(text, message) is { IsShared: false } region && region.ContentStart < region.ContentEnd ? region : null;
        }
        catch (TemplateFailure)
        {
            return null;
        }
    }
}
