using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols.LlamaCpp;

/// <summary>Writes answers of llama.cpp's own /completion.</summary>
internal sealed class NativeWriter : IAnswerWriter
{
    private readonly IReadOnlyList<PreparedAnswer> _prepared;
    private readonly AnswerRequest _request;
    private readonly NativeRequest _fields;
    private readonly int _choices;
    private readonly Text[] _texts;

    /// <summary>Creates a writer.</summary>
    /// <param name="prepared">The prompts.</param>
    /// <param name="request">The request of the first, for its settings.</param>
    /// <param name="fields">What was asked for.</param>
    /// <param name="choices">Number of answers to each prompt.</param>
    internal NativeWriter(IReadOnlyList<PreparedAnswer> prepared, AnswerRequest request, NativeRequest fields, int choices)
    {
        (_prepared, _request, _fields, _choices) = (prepared, request, fields, choices);
        _texts = [.. Enumerable.Range(0, prepared.Count * choices).Select(static _ => new Text())];
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
        IReadOnlyList<JsonNode> answers = [.. _texts.Select((t, i) => Wanted(End(i, t.Content.ToString(), _fields.ReturnTokens == true ? Ids(t.Tokens) : [], t.Tokens)))];
        return answers.Count > 1 ? LlamaJson.WriteAsync(context, answers) : LlamaJson.WriteAsync(context, answers[0]);
    }

    public Task BeginAsync(EventStream stream) => Task.CompletedTask;

    public async Task WriteAsync(EventStream stream, int index, AnswerEvent happened)
    {
        Collect(index, happened);
        if (happened is AnswerDelta { Piece: ContentPiece content } delta)
        {
            await stream.WriteAsync(new NativeAnswer(index, content.Text, Ids(delta.Tokens), false) { CompletionProbabilities = Probabilities(delta.Tokens), Timings = Numbers.Timings(delta) }, LlamaJson.Of<NativeAnswer>()).ConfigureAwait(false);
        }
        else if (happened is AnswerProgress progress)
        {
            await stream.WriteAsync(new NativeAnswer(index, "", [], false) { PromptProgress = Numbers.Progress(progress) }, LlamaJson.Of<NativeAnswer>()).ConfigureAwait(false);
        }
        else if (happened is AnswerFinished)
        {
            await stream.WriteAsync(Wanted(End(index, "", [], null)), LlamaJson.Of<JsonNode>()).ConfigureAwait(false);
        }
    }

    public Task EndAsync(EventStream stream) => Task.CompletedTask;

    public Task FailAsync(HttpContext context, Exception failure) => Errors.FailAsync(context, failure);

    private JsonNode Wanted(NativeAnswer answer)
    {
        var all = JsonSerializer.SerializeToNode(answer, LlamaJson.Of<NativeAnswer>())!;
        if (_fields.ResponseFields is not { Length: > 0 } names)
        {
            return all;
        }

        var wanted = new JsonObject();
        foreach (var name in names.Distinct())
        {
            var field = name.Split('/').Aggregate((JsonNode?)all, static (at, part) => (at as JsonObject)?[part]);
            if (field is not null)
            {
                wanted[name] = field.DeepClone();
            }
        }

        return wanted;
    }

    private NativeAnswer End(int index, string content, IReadOnlyList<int> ids, IReadOnlyList<AnswerToken>? tokens)
    {
        var (text, prepared) = (_texts[index], _prepared[index / _choices]);
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
                options.Seed, options.Temperature, options.TopK, options.TopP, options.MinP, options.RepetitionPenalty, options.PresencePenalty, options.FrequencyPenalty, most, most, _request.Stops, _request.IgnoresEnd, _fields.Stream == true, options.TopLogProbs)
            { LogitBias = [.. prepared.LogitBias.OrderBy(static b => b.Key).Select(static b => new NativeBias(b.Key) { Bias = float.IsInfinity(b.Value) ? null : b.Value })] },
            Timings = Numbers.Timings([end], 1),
        };
    }

    private List<NativeToken>? Probabilities(IReadOnlyList<AnswerToken> tokens) => _fields.NProbs is > 0
        ? [.. tokens.Select(t => Token(t.Chance, [.. t.Alternatives.Select(a => Token(a, null))]))]
        : null;

    private NativeToken Token(TokenText token, IReadOnlyList<NativeToken>? top)
    {
        var known = new NativeToken(token.Id, token.Text, Numbers.Bytes(token));
        return _fields.PostSamplingProbs == true
            ? known with { Prob = MathF.Exp(token.LogProb), TopProbs = top }
            : known with { Logprob = Numbers.LogProb(token.LogProb), TopLogprobs = top };
    }

    private static List<int> Ids(IReadOnlyList<AnswerToken> tokens) => [.. tokens.Select(static t => t.Chance.Id)];

    private sealed class Text
    {
        internal StringBuilder Content { get; } = new();

        internal List<AnswerToken> Tokens { get; } = [];

        internal AnswerFinished? End { get; set; }
    }
}
