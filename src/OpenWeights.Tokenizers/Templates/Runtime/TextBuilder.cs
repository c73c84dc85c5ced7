using System.Text;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Builds text together with the origin of its characters, within the limits of the render.</summary>
internal sealed class TextBuilder(RenderState state)
{
    // Shorter strings are copied when something is appended to them.
    private const int LongText = 256;

    private const int RunCharacters = 12;

    private readonly StringBuilder text = new();
    private readonly List<MarkRun> runs = [];

    public int Length => text.Length;

    /// <summary>Text that is made here, such as the punctuation of JSON: the turn's that is being written.</summary>
    public void Append(ReadOnlySpan<char> value) => Append(value, new Mark { Turn = state.Turn });

    public void Append(ReadOnlySpan<char> value, Mark mark)
    {
        if (value.IsEmpty)
        {
            return;
        }

        state.CountText(value.Length, text.Length + value.Length);
        _ = text.Append(value);
        Cover(mark);
    }

    public void Append(char value, int count = 1)
    {
        if (count <= 0)
        {
            return;
        }

        state.CountText(count, (long)text.Length + count);
        _ = text.Append(value, count);
        Cover(new Mark { Turn = state.Turn });
    }

    public void Append(PyString value) => Append(value, 0, value.Units);

    /// <summary>Several strings as one. What is appended to a long string, as templates do that collect their output in a variable, is added to
    /// its builder, so that the whole is not copied for each piece.</summary>
    public static PyString Join(RenderState state, bool isMarkup, params ReadOnlySpan<PyString> parts)
    {
        var first = parts[0];
        var isLong = first.Units >= LongText && first.IsMarkup == isMarkup;
        var builder = (isLong ? first.Open : null) ?? state.NewText();
        if (builder.Length == 0)
        {
            builder.Append(first);
        }

        foreach (var part in parts[1..])
        {
            builder.Append(part);
        }

        return isLong ? new PyString(builder, isMarkup) : builder.Build(isMarkup);
    }

    /// <summary>The text, and the origin of its characters, up to a length that it once had.</summary>
    public (string Text, MarkRun[]? Runs) Read(int end)
    {
        if (!state.Tracing)
        {
            return (text.ToString(0, end), null);
        }

        var last = runs.FindIndex(run => run.End >= end);
        var read = runs.GetRange(0, last + 1).ToArray();
        read[last] = new MarkRun(end, read[last].Mark);
        return (text.ToString(0, end), read);
    }

    /// <summary>A part of a string, by UTF-16 units.</summary>
    public void Append(PyString value, int start, int end)
    {
        if (!state.Tracing || value.Runs is null)
        {
            Append(value.Value.AsSpan(start, end - start), default);
            return;
        }

        for (var at = start; at < end;)
        {
            var run = value.Runs[value.RunAt(at)];
            var stop = Math.Min(run.End, end);
            Append(value.Value.AsSpan(at, stop - at), run.Mark);
            at = stop;
        }
    }

    /// <summary>Appends as output: where a message's turn is being written, the characters become that turn's.</summary>
    public void Write(PyString value)
    {
        if (!state.Tracing || state.Turn == 0)
        {
            Append(value);
            return;
        }

        if (value.Runs is null)
        {
            Append(value.Value, new Mark { Turn = state.Turn });
            return;
        }

        var start = 0;
        foreach (var run in value.Runs)
        {
            Append(value.Value.AsSpan(start, run.End - start), run.Mark with { Turn = state.Turn });
            start = run.End;
        }
    }

    public PyString Build(bool isMarkup = false) =>
        text.Length == 0 && !isMarkup
            ? PyString.Empty
            : new PyString(text.ToString(), state.Tracing && text.Length > 0 ? [.. runs] : null, isMarkup);

    /// <summary>The text, all of it marked as written inside a generation block.</summary>
    public PyString BuildGenerated()
    {
        var built = Build();
        return built.Runs is null
            ? built
            : new PyString(built.Value, Array.ConvertAll(built.Runs, run => run with { Mark = run.Mark with { Generated = true } }));
    }

    private void Cover(Mark mark)
    {
        if (!state.Tracing)
        {
            return;
        }

        if (runs.Count > 0 && runs[^1].Mark == mark)
        {
            runs[^1] = new MarkRun(text.Length, mark);
        }
        else
        {
            // A run takes the memory of several characters.
            state.CountText(RunCharacters, text.Length);
            runs.Add(new MarkRun(text.Length, mark));
        }
    }
}
