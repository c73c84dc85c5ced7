using System.Text;

namespace OpenWeights.Tune.Decoding;

/// <summary>Streams text up to the first stop sequence. Text that could be the start of one is held back.</summary>
internal sealed class StopSequences
{
    private readonly IReadOnlyList<string> _stops;
    private readonly TextWriter? _output;
    private readonly StringBuilder _text = new();
    private int _passed;
    private int _taken;

    /// <summary>Creates the filter.</summary>
    /// <param name="stops">The stop sequences; empty ones are ignored.</param>
    /// <param name="output">Receives the text; null for none.</param>
    public StopSequences(IReadOnlyList<string> stops, TextWriter? output)
    {
        _stops = [.. stops.Where(static s => s.Length > 0)];
        _output = output;
    }

    /// <summary>Whether a stop sequence was found.</summary>
    public bool Found { get; private set; }

    /// <summary>The stop sequence that was found; null for none.</summary>
    public string? FoundSequence { get; private set; }

    /// <summary>Number of characters that were passed on.</summary>
    public int Passed => _passed;

    /// <summary>The text before the stop sequence.</summary>
    public string Text => _text.ToString();

    /// <summary>Adds text.</summary>
    /// <returns>Whether to continue.</returns>
    public bool Add(string more)
    {
        if (Found)
        {
            return false;
        }

        // What was passed on can be the beginning of no stop sequence.
        _ = _text.Append(more);
        var held = _text.ToString(_passed, _text.Length - _passed);
        var (at, stop) = First(held);
        if (stop is not null)
        {
            (Found, FoundSequence) = (true, stop);
            _text.Length = _passed + at;
        }

        Pass(Found ? _text.Length : _text.Length - Beginning(held));
        return !Found;
    }

    /// <summary>Takes the text that was passed on since the last time.</summary>
    public string Take()
    {
        var text = _text.ToString(_taken, _passed - _taken);
        _taken = _passed;
        return text;
    }

    /// <summary>Adds the last of the text and emits what was held back.</summary>
    public void Finish(string rest)
    {
        if (Add(rest))
        {
            Pass(_text.Length);
        }
    }

    // The stop sequence that begins first in a text, the longest of several there.
    private (int At, string? Stop) First(string text)
    {
        (int At, string? Stop) first = (-1, null);
        foreach (var stop in _stops)
        {
            if (text.IndexOf(stop, StringComparison.Ordinal) is >= 0 and var at && (first.Stop is null || at < first.At || (at == first.At && stop.Length > first.Stop.Length)))
            {
                first = (at, stop);
            }
        }

        return first;
    }

    // Length of the longest suffix of the text that is a prefix of a stop sequence.
    private int Beginning(string text)
    {
        var longest = 0;
        foreach (var stop in _stops)
        {
            for (var length = Math.Min(stop.Length - 1, text.Length); length > longest; length--)
            {
                if (text.AsSpan(text.Length - length).SequenceEqual(stop.AsSpan(0, length)))
                {
                    longest = length;
                }
            }
        }

        return longest;
    }

    private void Pass(int upTo)
    {
        if (upTo > _passed)
        {
            _output?.Write(_text.ToString(_passed, upTo - _passed));
            _output?.Flush();
            _passed = upTo;
        }
    }
}
