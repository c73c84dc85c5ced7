using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Answering.ToolCalls;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Answering;

/// <summary>
/// Separates the text that a model generates after a prompt of its chat template into reasoning, content and calls of tools, as it is generated.
/// A call is given out once it is complete; what turns out to be none is content. Not thread-safe.
/// </summary>
internal sealed class AnswerParser
{
    private readonly AnswerReader _reader;
    private readonly IToolCallFormat? _format;
    private readonly ToolSchemas _tools;
    private readonly List<AnswerPiece> _pieces = [];

    // Text of the answer that is not decided yet.
    private readonly StringBuilder _held = new();

    // White space and marks around calls: dropped if a call follows, else content.
    private readonly StringBuilder _between = new();
    private readonly StringBuilder _arguments = new();
    private string? _recipient;
    private int _calls;
    private bool _hasContent;
    private bool _afterCall;

    /// <summary>Creates a parser for one answer.</summary>
    /// <param name="reasoning">How the template writes reasoning.</param>
    /// <param name="format">How the template writes calls; null to read none.</param>
    /// <param name="prompt">The prompt, which may begin a reasoning.</param>
    /// <param name="tools">The tools of the request: a list of functions with names and parameters; null for none.</param>
    public AnswerParser(ReasoningFormat reasoning, IToolCallFormat? format, string prompt, JsonNode? tools)
    {
        _reader = new AnswerReader(reasoning, prompt);
        _format = format;
        _tools = ToolSchemas.Of(tools);
    }

    /// <summary>Whether the next text is reasoning, as far as is known.</summary>
    public bool InReasoning => _reader.InReasoning;

    /// <summary>Whether the answer is complete, even if the model has not generated an end token.</summary>
    public bool IsDone => _reader.IsDone;

    /// <summary>Number of calls so far.</summary>
    public int Calls => _calls;

    /// <summary>Whether a special token is a part of the marks, so that its text must be passed to the parser; others are left out.</summary>
    /// <param name="text">Its text.</param>
    public bool Reads(string text) => _reader.Reads(text) || (!string.IsNullOrEmpty(text) && _format?.Marks.Any(m => m.Contains(text, StringComparison.Ordinal)) == true);

    /// <summary>Adds generated text.</summary>
    /// <param name="text">The text.</param>
    /// <returns>The pieces that have become certain, in order.</returns>
    public IReadOnlyList<AnswerPiece> Add(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        _pieces.Clear();
        Take(_reader.AddParts(text));
        if (_reader.IsDone)
        {
            EndMessage();
        }

        return [.. _pieces];
    }

    /// <summary>Ends the text.</summary>
    /// <returns>The pieces that were held back.</returns>
    public IReadOnlyList<AnswerPiece> Finish()
    {
        _pieces.Clear();
        Take(_reader.FinishParts());
        EndMessage();
        Scan(isWhole: true);
        if (!_afterCall && _between.Length > 0)
        {
            _pieces.Add(new ContentPiece(_between.ToString()));
            _ = _between.Clear();
        }

        return [.. _pieces];
    }

    private void Take(IReadOnlyList<AnswerPart> parts)
    {
        foreach (var part in parts)
        {
            if (part.Recipient != _recipient)
            {
                EndMessage();
                _recipient = part.Recipient;
            }

            if (part.IsReasoning)
            {
                _pieces.Add(new ReasoningPiece(part.Text));
            }
            else if (_recipient is not null && _format is not null)
            {
                _ = _arguments.Append(part.Text);
            }
            else
            {
                _ = _held.Append(part.Text);
                Scan(isWhole: false);
            }
        }
    }

    // A message to a tool is a call.
    private void EndMessage()
    {
        if (_recipient is null || _arguments.Length == 0)
        {
            return;
        }

        var (name, text) = (_recipient, _arguments.ToString());
        (_recipient, _) = (null, _arguments.Clear());
        if (JsonCalls.IsObject(text))
        {
            Give(new ToolCall(name.StartsWith(HarmonyFormat.Functions, StringComparison.Ordinal) ? name[HarmonyFormat.Functions.Length..] : name, text.Trim()));
        }
        else
        {
            Content(text);
        }
    }

    private void Scan(bool isWhole)
    {
        while (_held.Length > 0)
        {
            var text = _held.ToString();
            if (Next(text) is not var (at, mark))
            {
                var sure = isWhole ? text.Length : text.Length - Beginning(text);
                Content(text[..sure]);
                _ = _held.Remove(0, sure);
                return;
            }

            Content(text[..at]);
            _ = _held.Remove(0, at);
            if (!Begin(mark, text[at..], isWhole))
            {
                return;
            }
        }
    }

    // What begins with a mark; false if more text is needed.
    private bool Begin(string mark, string text, bool isWhole)
    {
        if (_format!.Around.Contains(mark))
        {
            _ = _between.Append(mark);
            _ = _held.Remove(0, mark.Length);
            return true;
        }

        var reading = new CallText(text, isWhole);
        var calls = _format.Read(reading, _tools);
        if (reading.IsCut)
        {
            return false;
        }

        if (reading.IsWrong || calls.Count == 0)
        {
            _ = _held.Remove(0, mark.Length);
            Content(mark);
            return true;
        }

        _ = _held.Remove(0, reading.At);
        foreach (var call in calls)
        {
            Give(call);
        }

        return true;
    }

    private void Give(ToolCall call)
    {
        _ = _between.Clear();
        _afterCall = true;
        _pieces.Add(new ToolCallPiece(_calls++, call.Id ?? _format!.NewId(), call.Name, call.Arguments));
    }

    private void Content(string text)
    {
        if (string.IsNullOrWhiteSpace(text))
        {
            _ = _between.Append(text);
            return;
        }

        // Where calls may follow, white space at the end is decided by what comes next.
        var end = _format is null ? text.Length : text.AsSpan().TrimEnd().Length;
        var before = _afterCall ? "" : _between.ToString();
        _pieces.Add(new ContentPiece(before + (_afterCall ? text[..end].TrimStart() : text[..end])));
        (_hasContent, _afterCall) = (true, false);
        _ = _between.Clear().Append(text.AsSpan(end));
    }

    private IEnumerable<string> Marks(bool atStart) => _format is null ? [] : [.. _format.Opens, .. _format.Around, .. atStart ? _format.OpensAnswers : []];

    // The first mark, and of those at one place the longest.
    private (int At, string Mark)? Next(string text)
    {
        var atStart = !_hasContent && _calls == 0 && _between.ToString().All(char.IsWhiteSpace);
        (int At, string Mark)? first = null;
        foreach (var mark in Marks(atStart))
        {
            var at = text.IndexOf(mark, StringComparison.Ordinal);
            if (at >= 0 && (!_format!.OpensAnswers.Contains(mark) || string.IsNullOrWhiteSpace(text[..at])) && (first is null || at < first.Value.At || (at == first.Value.At && mark.Length > first.Value.Mark.Length)))
            {
                first = (at, mark);
            }
        }

        return first;
    }

    // Length of the longest end of a text that may be the beginning of a mark.
    private int Beginning(string text) => Marks(atStart: false).Select(mark =>
    {
        var length = Math.Min(mark.Length - 1, text.Length);
        while (length > 0 && !text.EndsWith(mark[..length], StringComparison.Ordinal))
        {
            length--;
        }

        return length;
    }).DefaultIfEmpty().Max();
}
