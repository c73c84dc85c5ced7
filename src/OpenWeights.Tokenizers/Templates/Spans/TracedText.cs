using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>A stretch of text of one turn (in the terms of <see cref="Mark.Turn"/>; 0 for none).</summary>
internal readonly record struct Segment(int Turn, int Start, int End);

/// <summary>A rendered text whose characters know where they come from.</summary>
internal sealed class TracedText
{
    private readonly MarkRun[] runs;
    private readonly IReadOnlyList<int[]> mergedTurns;

    public TracedText(RenderState state)
    {
        var built = state.Output.Build();
        Text = built.Value;
        runs = built.Runs ?? [];
        mergedTurns = state.MergedTurns;
        Segments = FindSegments();
    }

    public string Text { get; }

    /// <summary>The text cut where the turn changes, in order.</summary>
    public IReadOnlyList<Segment> Segments { get; }

    /// <summary>The messages (from 0) of a turn: one, or those that the template merged into one.</summary>
    public int[] MembersOf(int turn) => turn > 0 ? [turn - 1] : mergedTurns[~turn];

    /// <summary>The turn that a message is part of: its own, or a merged one if only that was written.</summary>
    public int TurnOf(int message)
    {
        var own = Segments.Any(segment => segment.Turn == message + 1 && HasContent(segment.Start, segment.End, [message]));
        var merged = own ? null : Segments.Cast<Segment?>().FirstOrDefault(segment =>
            segment!.Value.Turn < 0 && MembersOf(segment.Value.Turn).Contains(message));
        return merged?.Turn ?? message + 1;
    }

    /// <summary>The stretches of messages' data in a part of the text: of these messages, or of all others.</summary>
    public IEnumerable<(int Start, int End, int Message)> Content(int from, int to)
    {
        foreach (var (start, end, mark) in Marks(from, to))
        {
            if (mark.Owner != 0 && mark.Kind == MarkKind.Content)
            {
                yield return (start, end, mark.Owner - 1);
            }
        }
    }

    public bool HasContent(int from, int to, int[] messages) => Content(from, to).Any(part => messages.Contains(part.Message));

    /// <summary>The equally marked stretches of a part of the text.</summary>
    public IEnumerable<(int Start, int End, Mark Mark)> Marks(int from, int to)
    {
        var start = 0;
        foreach (var run in runs)
        {
            if (start >= to)
            {
                yield break;
            }

            if (run.End > from)
            {
                yield return (Math.Max(start, from), Math.Min(run.End, to), run.Mark);
            }

            start = run.End;
        }
    }

    /// <summary>The nearest place at or before a position where the origin of the text changes.</summary>
    public int BoundaryBefore(int position) => runs.Select(run => run.End).Where(end => end <= position).DefaultIfEmpty(0).Max();

    /// <summary>The position after the last character that belongs to a message.</summary>
    public int EndOfTurns => Segments.Where(segment => segment.Turn != 0).Select(segment => segment.End).DefaultIfEmpty(0).Max();

    /// <summary>The position after the last visible text of other turns, and the last data of other messages, before a turn's own text.</summary>
    public int EndOfOthersBefore(Region region)
    {
        var turn = TurnOf(region.Members[0]);
        var end = Segments
            .Where(segment => segment.Turn != 0 && segment.Turn != turn && segment.End <= region.ContentStart
                && !Text.AsSpan(segment.Start, segment.End - segment.Start).IsWhiteSpace())
            .Select(segment => segment.End)
            .DefaultIfEmpty(0)
            .Max();
        return Content(end, region.ContentStart).Where(part => !region.Members.Contains(part.Message)).Select(part => part.End).DefaultIfEmpty(end).Max();
    }

    private static int TurnOf(Mark mark) => mark.Turn != 0 ? mark.Turn : mark.Owner;

    private List<Segment> FindSegments()
    {
        var segments = new List<Segment>();
        var start = 0;
        foreach (var run in runs)
        {
            var turn = TurnOf(run.Mark);
            if (segments.Count > 0 && segments[^1].Turn == turn)
            {
                segments[^1] = segments[^1] with { End = run.End };
            }
            else
            {
                segments.Add(new Segment(turn, start, run.End));
            }

            start = run.End;
        }

        return segments;
    }
}
