using System.Text;
using Microsoft.AspNetCore.Http;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>Writes completions.</summary>
/// <param name="head">What all of an answer's JSON begins with.</param>
/// <param name="echoes">What comes before the text of each prompt's choices.</param>
/// <param name="choices">Number of choices of each prompt.</param>
/// <param name="hasLogProbs">Whether log-probabilities were asked for.</param>
/// <param name="hasUsage">Whether a stream ends with its usage in a chunk of its own.</param>
internal sealed class CompletionWriter(AnswerHead head, IReadOnlyList<CompletionEcho> echoes, int choices, bool hasLogProbs, bool hasUsage) : IAnswerWriter
{
    private readonly CompletionLines[] _texts = [.. Enumerable.Range(0, echoes.Count * choices).Select(i => new CompletionLines(echoes[i / choices]))];
    private readonly SortedDictionary<int, AnswerFinished> _finished = [];

    private IReadOnlyList<AnswerFinished> Finished => [.. _finished.Values];

    public void Collect(int index, AnswerEvent happened)
    {
        if (happened is AnswerFinished end)
        {
            _finished[index] = end;
        }
        else if (happened is AnswerDelta delta)
        {
            _texts[index].Add(delta);
        }
    }

    public Task WriteAsync(HttpContext context) => JsonBody.WriteAsync(context, head.Completion([.. _texts.Select((t, i) => new CompletionChoice(t.Take(out var logProbs), i)
    {
        Logprobs = hasLogProbs ? logProbs : null,
        FinishReason = Numbers.Reason(_finished[i].FinishReason),
    })]) with
    { Usage = Numbers.Usage(Finished, choices), Timings = Numbers.Timings(Finished, choices) });

    public async Task BeginAsync(EventStream stream)
    {
        for (var i = 0; i < _texts.Length; i++)
        {
            if (_texts[i].Length > 0)
            {
                await Chunk(stream, Next(i), null).ConfigureAwait(false);
            }
        }
    }

    public async Task WriteAsync(EventStream stream, int index, AnswerEvent happened)
    {
        if (happened is AnswerDelta delta)
        {
            _texts[index].Add(delta);
            await stream.WriteAsync(head.Completion([Next(index)]) with { Timings = Numbers.Timings(delta) }, OpenAiJson.Of<CompletionAnswer>()).ConfigureAwait(false);
        }
        else if (happened is AnswerProgress progress)
        {
            await stream.WriteAsync(head.Completion([new CompletionChoice("", index)]) with { PromptProgress = Numbers.Progress(progress) }, OpenAiJson.Of<CompletionAnswer>()).ConfigureAwait(false);
        }
        else if (happened is AnswerFinished end)
        {
            _finished[index] = end;
            await Chunk(stream, new CompletionChoice("", index) { FinishReason = Numbers.Reason(end.FinishReason) }, _finished.Count == _texts.Length && !hasUsage ? Finished : null).ConfigureAwait(false);
        }
    }

    public async Task EndAsync(EventStream stream)
    {
        if (hasUsage)
        {
            await stream.WriteAsync(WithNumbers(head.Completion([]), Finished), OpenAiJson.Of<CompletionAnswer>()).ConfigureAwait(false);
        }

        await stream.DoneAsync().ConfigureAwait(false);
    }

    public Task FailAsync(HttpContext context, Exception failure) => Errors.FailAsync(context, failure);

    private CompletionChoice Next(int index) => new(_texts[index].Take(out var logProbs), index) { Logprobs = hasLogProbs ? logProbs : null };

    private Task Chunk(EventStream stream, CompletionChoice choice, IReadOnlyList<AnswerFinished>? ends) =>
        stream.WriteAsync(ends is null ? head.Completion([choice]) : WithNumbers(head.Completion([choice]), ends), OpenAiJson.Of<CompletionAnswer>());

    private CompletionAnswer WithNumbers(CompletionAnswer answer, IReadOnlyList<AnswerFinished> ends) => answer with { Usage = Numbers.Usage(ends, choices), Timings = Numbers.Timings(ends, choices) };
}

/// <summary>What comes before the text of a completion.</summary>
/// <param name="Text">The prompt's text; empty where none is wanted.</param>
/// <param name="Tokens">The prompt's tokens with their log-probabilities, the first without one; empty where none are wanted.</param>
internal sealed record CompletionEcho(string Text, IReadOnlyList<(AnswerToken Token, bool HasLogProb)> Tokens)
{
    internal static CompletionEcho None { get; } = new("", []);
}

/// <summary>Text of a completion that was not written yet, with its tokens and where they begin.</summary>
internal sealed class CompletionLines
{
    private readonly StringBuilder _text = new();
    private readonly List<(AnswerToken Token, bool HasLogProb)> _tokens = [];

    // Tokens can end within a character, which begins where the first of them does.
    private readonly Decoder _characters = Encoding.UTF8.GetDecoder();
    private readonly string _echo;
    private int _offset;

    internal CompletionLines(CompletionEcho echo)
    {
        _echo = echo.Text;
        _ = _text.Append(echo.Text);
        _tokens.AddRange(echo.Tokens);
    }

    internal int Length => _text.Length;

    internal void Add(AnswerDelta delta)
    {
        if (delta.Piece is ContentPiece content)
        {
            _ = _text.Append(content.Text);
        }

        _tokens.AddRange(delta.Tokens.Select(static t => (t, true)));
    }

    /// <summary>Takes what was added.</summary>
    internal string Take(out CompletionLogProbs logProbs)
    {
        var offsets = new List<int>();
        foreach (var (token, _) in _tokens)
        {
            offsets.Add(_offset);
            _offset += Characters(token.Chance);
        }

        logProbs = new CompletionLogProbs(
            [.. _tokens.Select(static t => t.Token.Chance.Text)],
            [.. _tokens.Select(static t => t.HasLogProb ? Numbers.LogProb(t.Token.Chance.LogProb) : (float?)null)],
            [.. _tokens.Select(static t => t.HasLogProb ? Alternatives(t.Token) : null)],
            offsets)
        { Content = [.. _tokens.Where(static t => t.HasLogProb).Select(static t => Numbers.LogProb(t.Token))] };
        _tokens.Clear();
        var text = _text.ToString();
        _ = _text.Clear();
        return text;
    }

    // Number of characters of the text that end with a token.
    private int Characters(TokenText token)
    {
        // The tokenizer puts tokens before a text, and others a space before its first word, which are not in it.
        if (_offset < _echo.Length && string.CompareOrdinal(_echo, _offset, token.Text, 0, token.Text.Length) != 0 && !token.Text.Contains('\uFFFD', StringComparison.Ordinal))
        {
            var word = token.Text.AsSpan().TrimStart();
            return _echo.AsSpan(_offset).StartsWith(word) ? word.Length : 0;
        }

        return _characters.GetChars(token.Bytes.Span, new char[token.Bytes.Length + 1], flush: false);
    }

    // As OpenAI has it, the token itself is there too, likely or not.
    private static Dictionary<string, float> Alternatives(AnswerToken token)
    {
        var alternatives = new Dictionary<string, float>();
        foreach (var chance in token.Alternatives.Append(token.Chance))
        {
            _ = alternatives.TryAdd(chance.Text, Numbers.LogProb(chance.LogProb));
        }

        return alternatives;
    }
}
