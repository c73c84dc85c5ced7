using System.Text;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>
/// Separates the text that a model generates after a prompt of its chat template into reasoning and answer, as it is generated. Not thread-safe.
/// </summary>
internal sealed class AnswerReader
{
    private const string Call = "<|call|>";
    private const string Return = "<|return|>";

    private readonly ReasoningFormat _format;
    private readonly string[] _marks;
    private readonly string[] _marksOfAnswers;
    private readonly StringBuilder _held = new();
    private readonly StringBuilder _header = new();
    private readonly List<AnswerPart> _read = [];
    private string _blank = "";
    private bool _hasAnswer;
    private bool _inHeader;
    private bool _trims;
    private string _channel = "";
    private string? _recipient;

    // Tags in an answer are a part of it.
    private string[] ActiveMarks => _hasAnswer ? _marksOfAnswers : _marks;

    /// <summary>Creates a reader.</summary>
    /// <param name="format">How the template writes reasoning.</param>
    /// <param name="prompt">The prompt, which may begin a reasoning.</param>
    public AnswerReader(ReasoningFormat format, string prompt)
    {
        ArgumentNullException.ThrowIfNull(format);
        ArgumentNullException.ThrowIfNull(prompt);
        _format = format;
        _marks = format.HasChannels
            ? [ReasoningFormat.MessageStart, ReasoningFormat.Channel, ReasoningFormat.BodyStart, ReasoningFormat.MessageEnd, Return, Call]
            : [format.Open, format.Close, .. format.Marks.Around, .. format.Marks.Ends];
        _marksOfAnswers = format.HasChannels ? _marks : [.. format.Marks.Around, .. format.Marks.Ends];
        InReasoning = format.IsOpenAtEnd(prompt);
        _inHeader = format.HasChannels && !prompt.EndsWith(ReasoningFormat.BodyStart, StringComparison.Ordinal);
    }

    /// <summary>Whether the next text is reasoning, as far as is known.</summary>
    public bool InReasoning { get; private set; }

    /// <summary>Whether the answer is complete, even if the model has not generated an end token.</summary>
    public bool IsDone { get; private set; }

    /// <summary>Whether a special token is a part of the marks, so that its text must be passed to the reader.</summary>
    /// <param name="text">Its text.</param>
    public bool Reads(string text) => !string.IsNullOrEmpty(text) && Array.Exists(_marks, m => m.Contains(text, StringComparison.Ordinal));

    /// <summary>Adds generated text.</summary>
    /// <param name="text">The text.</param>
    /// <returns>The pieces of reasoning and answer that have become certain, in order.</returns>
    public IReadOnlyList<(bool IsReasoning, string Text)> Add(string text) => [.. AddParts(text).Select(static p => (p.IsReasoning, p.Text))];

    /// <summary>Ends the text.</summary>
    /// <returns>The pieces that were held back.</returns>
    public IReadOnlyList<(bool IsReasoning, string Text)> Finish() => [.. FinishParts().Select(static p => (p.IsReasoning, p.Text))];

    /// <summary>Adds generated text, as <see cref="Add"/>.</summary>
    internal IReadOnlyList<AnswerPart> AddParts(string text)
    {
        _read.Clear();
        _ = _held.Append(text);
        while (!IsDone && Next(_held.ToString()) is var (at, mark))
        {
            Text(_held.ToString(0, at));
            _ = _held.Remove(0, at + mark.Length);
            Take(mark);
        }

        if (!IsDone)
        {
            var sure = _held.Length - Beginning(_held.ToString());
            Text(_held.ToString(0, sure));
            _ = _held.Remove(0, sure);
        }

        return [.. _read];
    }

    /// <summary>Ends the text, as <see cref="Finish"/>.</summary>
    internal IReadOnlyList<AnswerPart> FinishParts()
    {
        _read.Clear();
        if (!IsDone)
        {
            Text(_held.ToString());
            var rest = _inHeader && !_hasAnswer ? _header.ToString() : _blank;
            if (rest.Length > 0 && !InReasoning)
            {
                _read.Add(new(false, rest, _recipient));
            }
        }

        return [.. _read];
    }

    /// <summary>Separates a whole text.</summary>
    /// <param name="tokenizer">Decodes its tokens.</param>
    /// <param name="ids">The tokens.</param>
    /// <returns>The reasoning and the answer.</returns>
    internal (string Reasoning, string Answer) Read(ITokenizer tokenizer, IEnumerable<int> ids)
    {
        var (all, plain) = (new List<(bool IsReasoning, string Text)>(), new List<int>());
        foreach (var id in ids)
        {
            if (tokenizer.Decode([id], skipSpecialTokens: true).Length == 0 && tokenizer.Decode([id], skipSpecialTokens: false) is var special && Reads(special))
            {
                all.AddRange(Add(tokenizer.Decode(plain, skipSpecialTokens: true) + special));
                plain.Clear();
            }
            else
            {
                plain.Add(id);
            }
        }

        all.AddRange(Add(tokenizer.Decode(plain, skipSpecialTokens: true)));
        all.AddRange(Finish());
        return (string.Concat(all.Where(static p => p.IsReasoning).Select(static p => p.Text)), string.Concat(all.Where(static p => !p.IsReasoning).Select(static p => p.Text)));
    }

    private void Take(string mark)
    {
        if (_format.HasChannels)
        {
            TakeOfChannels(mark);
        }
        else if (!ActiveMarks.Contains(mark))
        {
            Text(mark);
        }
        else if (!InReasoning && _format.Marks.Ends.Contains(mark))
        {
            IsDone = true;
        }
        else if (_format.Marks.Around.Contains(mark))
        {
            InReasoning = false;
        }
        else if (mark == _format.Close)
        {
            // Some models begin an answer without reasoning with the closing tag alone.
            (InReasoning, _trims, _blank) = (false, true, "");
        }
        else if (!InReasoning)
        {
            (InReasoning, _blank) = (true, "");
        }
        else
        {
            Text(mark);
        }
    }

    private void TakeOfChannels(string mark)
    {
        switch (mark)
        {
            case ReasoningFormat.BodyStart when _inHeader:
                var header = _header.ToString();
                var at = header.IndexOf(ReasoningFormat.Channel, StringComparison.Ordinal);
                _channel = at < 0 ? "" : header[(at + ReasoningFormat.Channel.Length)..].Split(' ', 2)[0].Trim();
                (_inHeader, InReasoning, _trims) = (false, _channel == "analysis", true);
                _recipient = Recipient(header);
                if (_hasAnswer && !InReasoning && _recipient is null)
                {
                    _read.Add(new(false, "\n\n", null));
                }

                _ = _header.Clear();
                break;
            case ReasoningFormat.MessageEnd:
                IsDone = !_inHeader && _channel == "final";
                (_inHeader, InReasoning) = (true, false);
                _ = _header.Clear();
                break;
            case ReasoningFormat.MessageStart:
                (_inHeader, InReasoning) = (true, false);
                _ = _header.Clear();
                break;
            case ReasoningFormat.Channel:
                _inHeader = true;
                _ = _header.Append(mark);
                break;
            default:
                IsDone = mark is Return or Call;
                break;
        }
    }

    // To whom a message is: "to=functions.name" in its header, before or after the channel; null for the user.
    private static string? Recipient(string header)
    {
        const string to = "to=";
        var at = header.IndexOf(to, StringComparison.Ordinal);
        var name = at < 0 ? "" : header[(at + to.Length)..];
        var end = name.AsSpan().IndexOfAny(" <\n");
        name = end < 0 ? name : name[..end];
        return name.Length > 0 ? name : null;
    }

    private void Text(string text)
    {
        if (text.Length == 0)
        {
            return;
        }

        if (_inHeader)
        {
            _ = _header.Append(text);
        }
        else if (InReasoning)
        {
            _read.Add(new(true, text, null));
        }
        else
        {
            text = _blank + (_trims ? text.TrimStart() : text);
            if (string.IsNullOrWhiteSpace(text))
            {
                // Held back: a reasoning may follow.
                _blank = text;
                return;
            }

            (_blank, _trims, _hasAnswer) = ("", false, true);
            _read.Add(new(false, text, _recipient));
        }
    }

    // The first mark in a text.
    private (int At, string Mark)? Next(string text)
    {
        (int At, string Mark)? first = null;
        foreach (var mark in ActiveMarks)
        {
            if (text.IndexOf(mark, StringComparison.Ordinal) is >= 0 and var at && (first is null || at < first.Value.At))
            {
                first = (at, mark);
            }
        }

        return first;
    }

    // Length of the longest suffix of a text that may be the beginning of a mark.
    private int Beginning(string text) => ActiveMarks.Select(mark =>
    {
        var length = Math.Min(mark.Length - 1, text.Length);
        while (length > 0 && !text.EndsWith(mark[..length], StringComparison.Ordinal))
        {
            length--;
        }

        return length;
    }).DefaultIfEmpty().Max();
}

/// <summary>A part of an answer.</summary>
/// <param name="IsReasoning">Whether it is reasoning.</param>
/// <param name="Text">The text.</param>
/// <param name="Recipient">To whom it is, other than the user; null for the user.</param>
internal readonly record struct AnswerPart(bool IsReasoning, string Text, string? Recipient);
