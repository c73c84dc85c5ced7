namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>Finds the turns of messages in a traced text.</summary>
internal static class RegionFinder
{
    /// <summary>The turn of a message; null if it wrote nothing.</summary>
    /// <exception cref="TemplateFailure">The message's text is in several places with other messages between them.</exception>
    public static Region? Find(TracedText text, int message)
    {
        var turn = text.TurnOf(message);
        var members = text.MembersOf(turn);
        var own = text.Segments.Where(segment => segment.Turn == turn && !IsBlank(text, segment.Start, segment.End)).ToList();
        var holding = own.Where(segment => text.HasContent(segment.Start, segment.End, members)).ToList();
        if (own.Count == 0)
        {
            return FindShared(text, message);
        }

        var (start, end) = holding.Count > 0 ? (holding[0].Start, holding[^1].End) : (own[^1].Start, own[^1].End);
        if (text.Segments.Any(segment => segment.Start >= start && segment.End <= end && segment.Turn != 0 && segment.Turn != turn
            && !IsBlank(text, segment.Start, segment.End)))
        {
            throw Refusal("the template writes it in several places, with other messages between them");
        }

        return Make(text, members, FirstOf(text, turn, start), LastOf(text, turn, end), isShared: false);
    }

    /// <summary>Where the turn's text begins that ends at a position or has nothing but the template's own text before it.</summary>
    private static int FirstOf(TracedText text, int turn, int start)
    {
        foreach (var segment in text.Segments.Reverse().Where(segment => segment.End <= start && !IsBlank(text, segment.Start, segment.End)))
        {
            if (segment.Turn == turn)
            {
                start = segment.Start;
            }
            else if (segment.Turn != 0)
            {
                break;
            }
        }

        return start;
    }

    /// <summary>Where the turn's text ends that begins at a position or has nothing but the template's own text before it.</summary>
    private static int LastOf(TracedText text, int turn, int end)
    {
        foreach (var segment in text.Segments.Where(segment => segment.Start >= end && !IsBlank(text, segment.Start, segment.End)))
        {
            if (segment.Turn == turn)
            {
                end = segment.End;
            }
            else if (segment.Turn != 0)
            {
                break;
            }
        }

        return end;
    }

    /// <summary>A refusal to tell what is the assistant's, with what to do about it.</summary>
    public static TemplateFailure Refusal(string reason) => new(
        ChatTemplateErrorKind.Spans,
        $"{reason}, so what of the text the assistant produces cannot be told; put the assistant's text between {{% generation %}} and "
        + "{% endgeneration %} in the template, or train on the whole text (data.train_on: all)");

    public static bool IsBlank(TracedText text, int start, int end) => text.Text.AsSpan(start, end - start).IsWhiteSpace();

    /// <summary>A message whose text stands inside another message's turn, between the texts of others.</summary>
    private static Region? FindShared(TracedText text, int message)
    {
        var parts = text.Content(0, text.Text.Length).Where(part => part.Message == message).ToList();
        if (parts.Count == 0)
        {
            return null;
        }

        var segment = text.Segments.First(candidate => candidate.Start <= parts[0].Start && parts[0].End <= candidate.End);
        if (parts[^1].End > segment.End)
        {
            throw Refusal("the template writes it inside the turns of several other messages");
        }

        var others = text.Content(segment.Start, segment.End).Where(part => part.Message != message).ToList();
        if (others.Exists(other => other.Start > parts[0].Start && other.End < parts[^1].End))
        {
            throw Refusal("the template mixes its text with that of other messages");
        }

        var start = others.Where(other => other.End <= parts[0].Start).Select(other => other.End).DefaultIfEmpty(segment.Start).Max();
        var end = others.Where(other => other.Start >= parts[^1].End).Select(other => other.Start).DefaultIfEmpty(segment.End).Min();
        return Make(text, [message], start, end, isShared: true);
    }

    private static Region Make(TracedText text, int[] members, int start, int end, bool isShared)
    {
        var content = text.Content(start, end).Where(part => members.Contains(part.Message)).ToList();
        return content.Count == 0
            ? new Region(members, start, end, end, start, isShared)
            : new Region(members, start, end, content[0].Start, content[^1].End, isShared);
    }
}

/// <summary>Where a turn of the assistant stands in the text.</summary>
/// <param name="Members">Its messages, from 0: one, or several that the template merged.</param>
/// <param name="Start">Where the turn's text begins.</param>
/// <param name="End">Where it ends.</param>
/// <param name="ContentStart">Where the first of the messages' own text begins; the end if there is none.</param>
/// <param name="ContentEnd">Where the last of it ends; the start if there is none.</param>
/// <param name="IsShared">Whether the turn is a part of what another message's turn wrote.</param>
internal sealed record Region(int[] Members, int Start, int End, int ContentStart, int ContentEnd, bool IsShared);
