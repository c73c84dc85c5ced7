using System.Runtime.InteropServices;
using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding;

/// <summary>Generates text autoregressively, with a key/value cache.</summary>
internal sealed class TextGenerator
{
    private readonly CausalLanguageModel _model;
    private readonly GenerationOptions _options;
    private float[] _scores = [];

    /// <summary>Creates a generator.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="options">Settings of the generation.</param>
    /// <exception cref="ArgumentOutOfRangeException">A setting is out of range.</exception>
    /// <exception cref="InvalidDataException">The model has a head of labels, or attention that looks both ways.</exception>
    public TextGenerator(CausalLanguageModel model, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        options.Require();
        TextLimits.RequireGenerating(model);
        _model = model;
        _options = options;
    }

    /// <summary>Generates after several prompts as a batch; shorter ones are padded on the left. Equal prompts are read once.</summary>
    /// <param name="prompts">Token ids of the prompts; none may be empty.</param>
    /// <param name="accept">Called with the prompt's index and each new token; returns whether to continue that text. Null to always
    /// continue.</param>
    /// <param name="adapters">Name of each prompt's adapter, null for the base model, where adapters are active by row; null if all prompts are answered
    /// alike.</param>
    /// <param name="stop">Cancels between tokens.</param>
    /// <exception cref="ArgumentException">A prompt is empty.</exception>
    /// <exception cref="InvalidDataException">The model has no room for a token after a prompt, or does not know one of its tokens.</exception>
    /// <exception cref="OperationCanceledException">Generation was cancelled.</exception>
    public IReadOnlyList<GenerationResult> Continue(IReadOnlyList<int[]> prompts, Func<int, int, bool>? accept = null, IReadOnlyList<string?>? adapters = null, CancellationToken stop = default)
    {
        using var memory = new PromptCache();
        return Continue(prompts, memory, accept, adapters, stop);
    }

    /// <summary>Generates after a prompt; only the part after its common prefix with the cached text is processed.</summary>
    /// <param name="prompt">Token ids of the prompt.</param>
    /// <param name="memory">The cache of the same model and adapter; it is updated with this text.</param>
    /// <param name="accept">Called with each new token; returns whether to continue. Null to always continue.</param>
    /// <param name="adapter">Name of the adapter where adapters are active by row; otherwise null.</param>
    /// <param name="stop">Cancels between tokens.</param>
    /// <exception cref="ArgumentException">The prompt is empty.</exception>
    /// <exception cref="InvalidDataException">The model has no room for a token after it, or does not know one of its tokens.</exception>
    /// <exception cref="OperationCanceledException">Generation was cancelled; the tokens processed so far remain cached.</exception>
    public GenerationResult Continue(int[] prompt, PromptCache memory, Func<int, bool>? accept = null, string? adapter = null, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        ArgumentNullException.ThrowIfNull(memory);
        return Continue([prompt], memory, accept is null ? null : (_, token) => accept(token), adapter is null ? null : [adapter], stop)[0];
    }

    private List<GenerationResult> Continue(IReadOnlyList<int[]> prompts, PromptCache memory, Func<int, int, bool>? accept, IReadOnlyList<string?>? adapters, CancellationToken stop)
    {
        var room = Room(prompts);
        using var nothing = no_grad();
        var invocations = _model.Stack.Invocations(adapters, prompts.Count);
        var from = invocations is null ? null : prompts.Zip(invocations, static (p, own) => own is null ? 0 : (long?)own.Find(p)).ToArray();
        var (cache, known) = prompts.Count == 1 ? memory.Take(prompts[0], from?[0], Holder()) : (new DecoderCache(), 0);
        var batch = new TextBatch(prompts, _options, from, adapters, known);
        var all = batch.Texts;
        var (isWhole, step, shared) = (true, (DecodeStep?)null, EqualPrompts.Of(prompts, adapters));
        try
        {
            for (var made = 0; made < _options.MaxNewTokens && batch.IsOpen; made++)
            {
                stop.ThrowIfCancellationRequested();
                var fewer = made > 0 && batch.DropEnded(cache);
                batch.Enter();
                if (!_model.Stack.Continues(cache, batch.LongestPosition))
                {
                    cache.Dispose();
                    cache = new DecoderCache();
                    batch.Restart();
                }

                isWhole = false;
                step = made == 1 || fewer ? DecodeStep.Of(_model, batch.Texts.Count) : step;
                var scores = step is not null && cache.Length > 0 && batch.Next[0].Length == 1
                    ? step.Read(Array.ConvertAll(batch.Next, static n => n[0]), batch.Padding, cache)
                    : made == 0 && shared is not null ? FirstScores(shared, batch, cache)
                    : Scores(batch.Next, batch.Padding, batch.From, cache, batch.Adapters);
                isWhole = true;
                var vocabulary = scores.Length / batch.Texts.Count;
                for (var i = 0; i < batch.Texts.Count; i++)
                {
                    var text = batch.Texts[i];
                    var token = text.Open ? text.Take(scores.Slice(i * vocabulary, vocabulary), _options) : 0;
                    if (text.Open && accept?.Invoke(text.Index, token) == false)
                    {
                        text.Close("stop");
                    }

                    text.Fill(room.Tokens - prompts[text.Index].Length - VirtualTokens);
                    batch.Next[i] = [token];
                }
            }
        }
        finally
        {
            memory.Keep(cache, isWhole && prompts.Count == 1 ? batch.Read[0] : null, Holder());
        }

        // An adapter with invocation tokens shares the states of the base.
        string? Holder() => invocations is null ? adapters?[0] : null;

        return [.. all.Select(static t => new GenerationResult(t.Ids, t.Reason) { IsFull = t.IsFull, IsFinite = t.IsFinite, LogProbs = t.LogProbs })];
    }

    private int VirtualTokens => _model.Stack.Virtual?.Count ?? 0;

    // Checks the prompts; the largest number of tokens of a text.
    private ContextLimit Room(IReadOnlyList<int[]> prompts)
    {
        ArgumentNullException.ThrowIfNull(prompts);
        var limits = new TextLimits(_model.VocabularySize, ContextLimit.Of(_model.Config, _options.MaxPositions));
        foreach (var prompt in prompts)
        {
            limits.Require(prompt, VirtualTokens);
        }

        return limits.Context;
    }

    // Logits of the first token of each text: equal prompts are read once, and each text then goes on from a copy of their states.
    private Span<float> FirstScores(EqualPrompts shared, TextBatch batch, DecoderCache cache)
    {
        var read = Scores(
            shared.First(batch.Next), shared.First(batch.Padding), batch.From is null ? null : shared.First(batch.From), cache, batch.Adapters is null ? null : shared.First(batch.Adapters));
        cache.Select(shared.Groups);
        var vocabulary = read.Length / shared.Count;
        _scores = new float[batch.Next.Length * vocabulary];
        for (var i = 0; i < batch.Next.Length; i++)
        {
            read.Slice(shared.Groups[i] * vocabulary, vocabulary).CopyTo(_scores.AsSpan(i * vocabulary));
        }

        return _scores;
    }

    // Logits of the next token of each text, [texts, vocabulary].
    private Span<float> Scores(int[][] next, int[] padding, long?[]? from, DecoderCache cache, IReadOnlyList<string?>? adapters)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens, past) = (next.Length, next[0].Length, cache.Length);
        var ids = Devices.Send(tensor([.. next.SelectMany(static n => n).Select(static i => (long)i)], [batch, tokens]), _model.Device);
        var input = new ModelInput
        {
            InputIds = ids,
            PositionIds = Positions(padding, past, tokens),
            LongestPosition = past + tokens - 1 - padding.Min(),
            Documents = padding.All(static p => p == 0) ? null : Documents(padding, past + tokens),
            Cache = cache,
            AdaptedFrom = from,
            Adapters = adapters,
        };
        _model.Stack.LayerWeights?.BeginOwn();
        var scores = _model.Logits(_model.call(input).narrow(1, tokens - 1, 1), input).view(batch, -1).to(float32).cpu().contiguous();
        _scores = _scores.Length == scores.numel() ? _scores : new float[scores.numel()];
        MemoryMarshal.Cast<byte, float>(scores.bytes).CopyTo(_scores);
        return _scores;
    }

    private Tensor Positions(int[] padding, int past, int tokens)
    {
        var positions = new long[padding.Length * tokens];
        for (var i = 0; i < positions.Length; i++)
        {
            positions[i] = Math.Max(0, past + (i % tokens) - padding[i / tokens]);
        }

        return Devices.Send(tensor(positions, [padding.Length, tokens]), _model.Device);
    }

    private Tensor Documents(int[] padding, int keys)
    {
        var documents = new long[padding.Length * keys];
        for (var i = 0; i < documents.Length; i++)
        {
            documents[i] = i % keys < padding[i / keys] ? 0 : 1;
        }

        return Devices.Send(tensor(documents, [padding.Length, keys]), _model.Device);
    }
}

/// <summary>The text generated after a prompt.</summary>
/// <param name="OutputIds">The new tokens, including the end token if there is one.</param>
/// <param name="FinishReason">stop for an end token or stop sequence, length for the maximum length.</param>
internal sealed record GenerationResult(IReadOnlyList<int> OutputIds, string FinishReason)
{
    /// <summary>Log-probability of each new token before top-k, top-p and min-p; empty unless the options ask for them.</summary>
    public IReadOnlyList<float> LogProbs { get; init; } = [];

    /// <summary>Whether the text ended because the model's context is full.</summary>
    public bool IsFull { get; init; }

    /// <summary>Whether the scores of all tokens that were taken are finite numbers; damaged weights, and ones that overflow in their dtype, give others.</summary>
    public bool IsFinite { get; init; } = true;
}
