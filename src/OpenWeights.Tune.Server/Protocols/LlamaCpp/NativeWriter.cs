using System.Text;
using Microsoft.AspNetCore.Http;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols.LlamaCpp;

/// <summary>Writes answers of llama.cpp's own /completion.</summary>
internal sealed class NativeWriter : IAnswerWriter
{
    private readonly IReadOnlyList<PreparedAnswer> _prepared;
    private readonly AnswerRequest _request;
    private readonly bool _isList;
    private readonly bool _hasProbabilities;
    private readonly bool _hasTokens;
    private readonly bool _isStream;
    private readonly Text[] _texts;

    /// <summary>Creates a writer.</summary>
    /// <param name="prepared">The prompts.</param>
    /// <param name="request">The request of the first, for its settings.</param>
    /// <param name="isList">Whether the answer is a list.</param>
    /// <param name="hasProbabilities">Whether probabilities were asked for.</param>
    /// <param name="hasTokens">Whether tokens were asked for.</param>
    /// <param name="isStream">Whether the answer is streamed.</param>
    internal NativeWriter(IReadOnlyList<PreparedAnswer> prepared, AnswerRequest request, bool isList, bool hasProbabilities, bool hasTokens, bool isStream)
    {
        (_prepared, _request, _isList, _hasProbabilities, _hasTokens, _isStream) = (prepared, request, isList, hasProbabilities, hasTokens, isStream);
        _texts = [.. prepared.Select(static _ => new Text())];
    }

    public void Collect(int index, AnswerEvent happened)
    {
        var text = _texts[index];
        if (happened is AnswerFinished end)
        {
            text.End = end;
        }
        else if (happened is AnswerDelta { Piece: ContentPiece content } delta)
        {
            _ = text.Content.Append(content.Text);
            text.Tokens.AddRange(delta.Tokens);
        }
    }

    public Task WriteAsync(HttpContext context)
    {
        IReadOnlyList<NativeAnswer> answers = [.. _texts.Select((t, i) => End(i, t.Content.ToString(), _hasTokens ? Ids(t.Tokens) : [], t.Tokens))];
        return _isList ? LlamaJson.WriteAsync(context, answers) : LlamaJson.WriteAsync(context, answers[0]);
    }

    public Task BeginAsync(EventStream stream) => Task.CompletedTask;

    public async Task WriteAsync(EventStream stream, int index, AnswerEvent happened)
    {
        Collect(index, happened);
        if (happened is AnswerDelta { Piece: ContentPiece content } delta)
        {
            await stream.WriteAsync(new NativeAnswer(index, content.Text, Ids(delta.Tokens), false) { CompletionProbabilities = Probabilities(delta.Tokens) }, LlamaJson.Of<NativeAnswer>()).ConfigureAwait(false);
        }
        else if (happened is AnswerFinished)
        {
            await stream.WriteAsync(End(index, "", [], null), LlamaJson.Of<NativeAnswer>()).ConfigureAwait(false);
        }
    }

    public Task EndAsync(EventStream stream) => Task.CompletedTask;

    public Task FailAsync(HttpContext context, Exception failure) => Errors.FailAsync(context, failure);

    private NativeAnswer End(int index, string content, IReadOnlyList<int> ids, IReadOnlyList<AnswerToken>? tokens)
    {
        var (text, prepared) = (_texts[index], _prepared[index]);
        var end = text.End!;
        var options = _request.Options;
        var most = _request.MaxNewTokens ?? -1;
        return new NativeAnswer(index, content, ids, true)
        {
            Model = prepared.Model.Name,
            Prompt = prepared.Model.Tokenizer.Decode(prepared.Tokens, skipSpecialTokens: false),
            StopType = end.Stop is not null ? "word" : end.FinishReason == FinishReason.Length ? "limit" : "eos",
            StoppingWord = end.Stop ?? "",
            Truncated = end.FinishReason == FinishReason.Length && end.Usage.Completion != most,
            HasNewLine = text.Content.ToString().Contains('\n', StringComparison.Ordinal),
            TokensPredicted = end.Usage.Completion,
            TokensEvaluated = end.Usage.Prompt,
            TokensCached = end.Usage.Cached,
            CompletionProbabilities = tokens is null ? null : Probabilities(tokens),
            GenerationSettings = new NativeSettings(
                options.Seed, options.Temperature, options.TopK, options.TopP, options.MinP, options.RepetitionPenalty, options.PresencePenalty, options.FrequencyPenalty, most, most, _request.Stops, _request.IgnoresEnd, _isStream, options.TopLogProbs),
            Timings = Numbers.Timings([end], 1),
        };
    }

    private List<TokenLogProb>? Probabilities(IReadOnlyList<AnswerToken> tokens) => _hasProbabilities ? [.. tokens.Select(Numbers.LogProb)] : null;

    private static List<int> Ids(IReadOnlyList<AnswerToken> tokens) => [.. tokens.Select(static t => t.Chance.Id)];

    private sealed class Text
    {
        internal StringBuilder Content { get; } = new();

        internal List<AnswerToken> Tokens { get; } = [];

        internal AnswerFinished? End { get; set; }
    }
}
