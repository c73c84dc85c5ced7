using System.Text;

namespace OpenWeights.Tune.Decoding;

/// <summary>Passes text on as it comes, but for stop texts, of which not even a beginning is passed on.</summary>
public sealed class StopSequences
{
    private readonly IReadOnlyList<string> _stops;
    private readonly TextWriter? _output;
    private readonly StringBuilder _text = new();
    private int _passed;

    /// <summary>A filter of text.</summary>
    /// <param name="stops">The texts that end the whole; empty ones count for nothing.</param>
    /// <param name="output">Gets the text; null for nobody.</param>
    public StopSequences(IReadOnlyList<string> stops, TextWriter? output)
    {
        _stops = [.. stops.Where(static s => s.Length > 0)];
        _output = output;
    }

    /// <summary>Whether a stop text came.</summary>
    public bool Found { get; private set; }

    /// <summary>The text up to the stop text.</summary>
    public string Text => _text.ToString();

    /// <summary>Adds text.</summary>
    /// <returns>Whether to go on.</returns>
    public bool Add(string more)
    {
        if (Found)
        {
            return false;
        }

        _ = _text.Append(more);
        var text = _text.ToString();
        var at = _stops.Select(s => text.IndexOf(s, StringComparison.Ordinal)).Where(static i => i >= 0).DefaultIfEmpty(-1).Min();
        if (at >= 0)
        {
            Found = true;
            _text.Length = at;
        }

        Pass(Found ? _text.Length : text.Length - Beginning(text));
        return !Found;
    }

    /// <summary>Adds the last of the text and passes on what was held back.</summary>
    public void Finish(string rest)
    {
        if (Add(rest))
        {
            Pass(_text.Length);
        }
    }

    // The length of the longest end of the text that a stop text begins with.
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
