using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>
/// A Python string: indexed by code point, perhaps marked as safe HTML (markupsafe's Markup), and, while a render is traced,
/// with the origin of each of its characters.
/// </summary>
internal sealed class PyString
{
    public static readonly PyString Empty = new(string.Empty);

    // A long text that a template appends to piece by piece stays in its builder until somebody reads it.
    private readonly TextBuilder? builder;
    private readonly int end;
    private string? value;
    private MarkRun[]? runs;
    private int length = -1;

    public PyString(string value, MarkRun[]? runs = null, bool isMarkup = false)
    {
        (this.value, this.runs, IsMarkup) = (value, runs, isMarkup);
    }

    /// <summary>The text of a builder up to now; more may be appended to it, which this string does not see.</summary>
    public PyString(TextBuilder builder, bool isMarkup)
    {
        (this.builder, end, IsMarkup) = (builder, builder.Length, isMarkup);
    }

    /// <summary>The characters, as UTF-16.</summary>
    public string Value
    {
        get
        {
            Read();
            return value!;
        }
    }

    /// <summary>The origin of the characters, covering all of <see cref="Value"/>; null where it is not known.</summary>
    public MarkRun[]? Runs
    {
        get
        {
            Read();
            return runs;
        }
    }

    public bool IsMarkup { get; }

    /// <summary>The number of UTF-16 units.</summary>
    public int Units => value?.Length ?? end;

    /// <summary>The builder that holds this text and nothing after it, to which another can be appended; null if there is none.</summary>
    public TextBuilder? Open => builder is not null && builder.Length == end ? builder : null;

    /// <summary>The number of code points; a lone surrogate counts as one.</summary>
    public int Length => length >= 0 ? length : length = CountCodePoints(Value);

    /// <summary>Whether code points and UTF-16 units coincide.</summary>
    public bool IsSimple => Length == Value.Length;

    public static PyString Of(string value) => value.Length == 0 ? Empty : new PyString(value);

    public static PyString OfChar(char c) => new(c.ToString());

    public PyString AsMarkup() => IsMarkup ? this : new PyString(Value, Runs, isMarkup: true);

    public PyString AsPlain() => IsMarkup ? new PyString(Value, Runs) : this;

    /// <summary>The text of another string that was made from this one in a way that lost the positions of characters.</summary>
    public PyString Derive(string text)
    {
        if (Runs is null || text.Length == 0)
        {
            return new PyString(text, null, IsMarkup);
        }

        var mark = Runs[0].Mark;
        foreach (var run in Runs)
        {
            if (run.Mark.Kind == MarkKind.Content)
            {
                mark = run.Mark;
                break;
            }
        }

        return new PyString(text, [new MarkRun(text.Length, mark)], IsMarkup);
    }

    /// <summary>Equally long text whose characters come from the same places, such as a change of case.</summary>
    public PyString Recast(string text) => text.Length == Value.Length ? new PyString(text, Runs, IsMarkup) : Derive(text);

    /// <summary>A part, by UTF-16 units.</summary>
    public PyString Slice(int start, int end)
    {
        if (start >= end)
        {
            return IsMarkup ? Empty.AsMarkup() : Empty;
        }

        return start == 0 && end == Value.Length ? this : new PyString(Value[start..end], CutRuns(start, end), IsMarkup);
    }

    /// <summary>The UTF-16 position of a code point.</summary>
    public int ToUnit(int codePoint)
    {
        if (IsSimple)
        {
            return codePoint;
        }

        var unit = 0;
        for (var i = 0; i < codePoint; i++)
        {
            unit += WidthAt(Value, unit);
        }

        return unit;
    }

    /// <summary>The code point that begins at a UTF-16 position.</summary>
    public int ToCodePoint(int unit) => IsSimple ? unit : CountCodePoints(Value.AsSpan(0, unit));

    /// <summary>The number of UTF-16 units (1 or 2) of the code point at a position.</summary>
    public static int WidthAt(ReadOnlySpan<char> text, int unit) =>
        char.IsHighSurrogate(text[unit]) && unit + 1 < text.Length && char.IsLowSurrogate(text[unit + 1]) ? 2 : 1;

    /// <summary>The code points, one string each.</summary>
    public IEnumerable<PyString> CodePoints()
    {
        for (var unit = 0; unit < Value.Length;)
        {
            var next = unit + WidthAt(Value, unit);
            yield return Slice(unit, next);
            unit = next;
        }
    }

    /// <summary>The mark of the character at a UTF-16 position.</summary>
    public Mark MarkAt(int unit) => Runs is null ? default : Runs[RunAt(unit)].Mark;

    /// <summary>The index of the run that holds a UTF-16 position.</summary>
    public int RunAt(int unit)
    {
        var (low, high) = (0, Runs!.Length - 1);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = Runs[middle].End > unit ? (low, middle) : (middle + 1, high);
        }

        return low;
    }

    public override string ToString() => Value;

    private void Read()
    {
        if (value is null)
        {
            (value, runs) = builder!.Read(end);
        }
    }

    private MarkRun[]? CutRuns(int start, int end)
    {
        if (Runs is null)
        {
            return null;
        }

        var (first, last) = (RunAt(start), RunAt(end - 1));
        var cut = new MarkRun[last - first + 1];
        for (var i = first; i <= last; i++)
        {
            cut[i - first] = new MarkRun(Math.Min(Runs[i].End, end) - start, Runs[i].Mark);
        }

        return cut;
    }

    private static int CountCodePoints(ReadOnlySpan<char> text)
    {
        var count = text.Length;
        for (var i = text.IndexOfAnyInRange('\uD800', '\uDBFF'); i >= 0 && i + 1 < text.Length;)
        {
            if (char.IsLowSurrogate(text[i + 1]) && char.IsHighSurrogate(text[i]))
            {
                count--;
                i++;
            }

            var next = text[(i + 1)..].IndexOfAnyInRange('\uD800', '\uDBFF');
            i = next < 0 ? text.Length : i + 1 + next;
        }

        return count;
    }
}

/// <summary>Origin of a character.</summary>
internal enum MarkKind : byte
{
    /// <summary>The template's own text.</summary>
    Literal,

    /// <summary>A message's role or name, which templates write into a turn's header.</summary>
    Role,

    /// <summary>Anything else of a message: content, reasoning, tool calls.</summary>
    Content,
}

/// <summary>Where a character of a rendered text comes from.</summary>
/// <param name="Turn">The message whose loop iteration wrote it: its index + 1; negative for merged messages; 0 for none.</param>
/// <param name="Owner">The message whose data it is: its index + 1; 0 where it is the template's text.</param>
/// <param name="Kind">Kind of the message's data.</param>
/// <param name="Generated">Whether it was written inside a <c>{% generation %}</c> block.</param>
internal readonly record struct Mark(int Turn, int Owner, MarkKind Kind, bool Generated);

/// <summary>A stretch of equally marked characters; it begins where the run before it ends.</summary>
internal readonly record struct MarkRun(int End, Mark Mark);
