using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Steps;

/// <summary>
/// The next token of a few texts in one go on the CPU: what <see cref="CausalLanguageModel"/> computes from a cache, in a few stages a layer
/// that threads do together, each weight read once, and no tensor made. It holds where the model's weights lie and serves as long as neither
/// they nor its adapters change.
/// </summary>
internal sealed unsafe class ModelStep : IStagedWork
{
    /// <summary>Texts that are read at once at most.</summary>
    internal const int MostRows = 16;

    private readonly CausalLanguageModel _model;
    private readonly IReadOnlyList<StepLayer> _layers;
    private readonly StepNorm _norm;
    private readonly StepProducts _head;
    private readonly StepState _state;
    private readonly IReadOnlyCollection<StepRope> _ropes;
    private readonly Tensor _embeddings;
    private readonly RowMatrix _embedding;
    private readonly StepNumbers _logits;

    internal ModelStep(CausalLanguageModel model, nint rows, IReadOnlyList<StepLayer> layers, IReadOnlyCollection<StepRope> ropes, StepNorm norm, StepProducts head)
    {
        (_model, _layers, _ropes, _norm, _head) = (model, layers, ropes, norm, head);
        _embeddings = model.Stack.Embedding.Weight;
        _embedding = RowMatrix.Of(_embeddings);
        _state = new StepState(rows, _embedding.IsHalf, model.Config);
        _logits = new StepNumbers(rows * head.Columns);
    }

    /// <inheritdoc/>
    public int Stages => (_layers.Count * StepLayer.Stages) + 2;

    private FloatRows Logits => new((nint)_logits.Start, _head.Columns, _state.RowCount);

    /// <summary>Reads a token of each text.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="padding">How many tokens of padding each text begins with.</param>
    /// <param name="cache">What was read before, at least one token; it gets the new ones.</param>
    /// <returns>Scores of the token that comes next, [texts, vocabulary]; until the next call.</returns>
    internal Span<float> Read(ReadOnlySpan<int> tokens, int[] padding, KeyValueCache cache)
    {
        Span<long> positions = stackalloc long[tokens.Length];
        for (var row = 0; row < tokens.Length; row++)
        {
            positions[row] = Math.Max(0, cache.Length - padding[row]);
        }

        _state.Begin(cache, padding, get_num_threads());
        foreach (var rope in _ropes)
        {
            rope.Begin(positions, _state.Half);
        }

        Embed(tokens);
        StepLayer.Normalise(_layers.Count > 0 ? _layers[0].Before : _norm, _state);
        ThreadTeam.Shared.Run(this, _state.Threads);
        cache.Advance(Math.Max(0, cache.Length - padding.Min()));
        GC.KeepAlive(_embeddings);
        return _logits.Span;
    }

    /// <inheritdoc/>
    public int Parts(int stage)
    {
        var (layer, ofLayer) = Math.DivRem(stage, StepLayer.Stages);
        return layer < _layers.Count ? _layers[layer].Parts(ofLayer, _state) : ofLayer == 0 ? _head.InnerParts(_state.Threads) : _head.Parts(_head.Columns, _state.Threads);
    }

    /// <inheritdoc/>
    public void Run(int stage, int part)
    {
        var (layer, ofLayer) = Math.DivRem(stage, StepLayer.Stages);
        if (layer < _layers.Count)
        {
            _layers[layer].Run(ofLayer, part, _state);
        }
        else if (ofLayer == 0)
        {
            _head.RunInner(part, Parts(stage), _state.Normed);
        }
        else
        {
            Score(part, Parts(stage));
        }
    }

    /// <inheritdoc/>
    public void Finish(int stage)
    {
        var (layer, ofLayer) = Math.DivRem(stage, StepLayer.Stages);
        if (layer >= _layers.Count)
        {
            return;
        }

        _layers[layer].Finish(ofLayer, _state);
        if (ofLayer == StepLayer.Stages - 1)
        {
            StepLayer.Normalise(layer + 1 < _layers.Count ? _layers[layer + 1].Before : _norm, _state);
        }
    }

    private void Embed(ReadOnlySpan<int> tokens)
    {
        var (states, config) = (_state.States, _model.Config);
        var multiplier = StepMath.Round((float)config.EmbeddingMultiplier, _state.Half && config.RoundsEmbeddingMultiplier);
        for (var row = 0; row < tokens.Length; row++)
        {
            StepMath.Read((void*)_embedding.From(tokens[row]).Start, states.Stride, states[row], _state.Half);
            if (multiplier != 1)
            {
                RowSoftmax.Scale(states[row], states.Stride, multiplier);
                StepMath.Round(states[row], states.Stride, _state.Half);
            }
        }
    }

    private void Score(int part, int parts)
    {
        var (first, last, config) = (_head.Columns * part / parts, _head.Columns * (part + 1) / parts, _model.Config);
        _head.Run(first, last, _state.Normed, Logits);
        for (nint row = 0; row < _state.RowCount; row++)
        {
            var scores = Logits[row] + first;
            if (config.LogitMultiplier != 1)
            {
                RowSoftmax.Scale(scores, last - first, (float)config.LogitMultiplier);
            }

            if (config.LogitSoftCap is { } limit)
            {
                RowSoftmax.Limit(scores, last - first, (float)limit);
            }
        }
    }
}
