using System.Text;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Writes an answer as its tokens come, without the reasoning before it or with it.</summary>
internal sealed class AnswerStream
{
    private readonly Tokenizer _tokenizer;
    private readonly StreamingDecoder _decoder;
    private readonly AnswerReader? _reader;
    private readonly StopSequences _answer;
    private readonly StringBuilder _reasoning = new();
    private readonly TextWriter? _output;
    private readonly bool _shows;

    /// <summary>Creates a stream.</summary>
    /// <param name="tokenizer">Decodes the tokens.</param>
    /// <param name="reader">Parts reasoning and answer; null for a text that is no answer.</param>
    /// <param name="stops">Stop sequences of the answer.</param>
    /// <param name="output">Receives the text; null for none.</param>
    /// <param name="showsReasoning">Whether the reasoning is written too.</param>
    internal AnswerStream(Tokenizer tokenizer, AnswerReader? reader, IReadOnlyList<string> stops, TextWriter? output, bool showsReasoning)
    {
        _tokenizer = tokenizer;
        _decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: true);
        _reader = reader;
        _answer = new StopSequences(stops, output);
        (_output, _shows) = (output, showsReasoning);
    }

    /// <summary>The answer.</summary>
    internal string Text => _answer.Text;

    /// <summary>What was reasoned before it; null if nothing.</summary>
    internal string? Reasoning => _reasoning.ToString().Trim() is { Length: > 0 } text ? text : null;

    /// <summary>Number of tokens of the reasoning.</summary>
    internal int ReasoningTokens { get; private set; }

    /// <summary>Whether the tokens ended before the reasoning did.</summary>
    internal bool IsCutOff => _reader is { InReasoning: true } && _answer.Text.Length == 0;

    /// <summary>Whether a stop sequence, or the end of the answer's channel, was found.</summary>
    internal bool Found => _answer.Found || _reader is { IsDone: true };

    /// <summary>What is to be printed where nothing was written as it came.</summary>
    internal string Printed => _shows && Reasoning is { } reasoning ? $"reasoning:\n{reasoning}\n\nanswer:\n{Text}" : Text;

    /// <summary>Takes a token.</summary>
    /// <returns>Whether to continue.</returns>
    internal bool Add(int token)
    {
        if (_reader is null)
        {
            return _answer.Add(_decoder.Add(token));
        }

        var reasons = _reader.InReasoning;
        var text = _tokenizer.IsSpecial(token) && _tokenizer.Decode([token], skipSpecialTokens: false) is var special && _reader.Reads(special)
            ? special
            : _decoder.Add(token);
        var goes = Pass(_reader.Add(text));
        ReasoningTokens += reasons && _reader.InReasoning ? 1 : 0;
        return goes && !_reader.IsDone;
    }

    /// <summary>Ends the answer.</summary>
    internal void Finish()
    {
        if (_reader is null)
        {
            _answer.Finish(_decoder.Finish());
            return;
        }

        _ = Pass(_reader.Add(_decoder.Finish()));
        _ = Pass(_reader.Finish());
        _answer.Finish("");
    }

    private bool Pass(IReadOnlyList<(bool IsReasoning, string Text)> parts)
    {
        var goes = true;
        foreach (var (isReasoning, text) in parts)
        {
            if (isReasoning)
            {
                Write(_reasoning.Length == 0 ? "reasoning:\n" + text.TrimStart() : text);
                _ = _reasoning.Append(text);
            }
            else
            {
                Write(_answer.Text.Length == 0 && Reasoning is not null ? (_reasoning.ToString().EndsWith('\n') ? "\n" : "\n\n") + "answer:\n" : "");
                goes = _answer.Add(text);
            }
        }

        return goes;
    }

    private void Write(string text)
    {
        if (_shows && text.Length > 0)
        {
            _output?.Write(text);
            _output?.Flush();
        }
    }
}
