using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>
/// Computes the next token of a few texts on the CPU: the same as <see cref="CausalLanguageModel"/> with a cache, but in a few stages per
/// layer that threads compute together, reading each weight once and allocating no tensors. It stores addresses of the model's weights and
/// is valid as long
/// as neither the weights nor the adapters change.
/// </summary>
internal sealed unsafe class DecodeStep : IStagedWork
{
    /// <summary>Maximum number of texts.</summary>
    internal const int MaxRows = 16;

    private readonly CausalLanguageModel _model;
    private readonly IReadOnlyList<DecodeLayer> _layers;
    private readonly DecodeNorm _norm;
    private readonly DecodeProducts _head;
    private readonly DecodeState _state;
    private readonly IReadOnlyCollection<DecodeRope> _ropes;
    private readonly Tensor _embeddings;
    private readonly RowMatrix _embedding;
    private readonly DecodeBuffer _logits;

    private DecodeStep(CausalLanguageModel model, nint rows, IReadOnlyList<DecodeLayer> layers, IReadOnlyCollection<DecodeRope> ropes, DecodeNorm norm, DecodeProducts head)
    {
        (_model, _layers, _ropes, _norm, _head) = (model, layers, ropes, norm, head);
        _embeddings = model.Stack.Embedding.Weight;
        _embedding = RowMatrix.Of(_embeddings);
        _state = new DecodeState(rows, _embedding.IsHalf, model.Config);
        _logits = new DecodeBuffer(rows * head.Columns);
    }

    /// <summary>
    /// Builds the decode step for a few texts, valid as long as neither weights nor adapters change. Null if it is not supported: for too
    /// many texts, on another device than the CPU, and for mixture-of-experts models, quantized weights, and adapters other than LoRA.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="rows">Number of texts.</param>
    internal static DecodeStep? Of(CausalLanguageModel model, int rows)
    {
        var (embedding, config) = (model.Stack.Embedding, model.Config);
        if (rows > MaxRows || embedding.Adapter is not null || !CpuKernel.Serves(embedding.Weight) || !BitConverter.IsLittleEndian
            || DecodeProducts.Of(rows, model.DType, model.Head) is not { } head)
        {
            return null;
        }

        var (ropes, layers) = (new Dictionary<RopeConfig, DecodeRope>(ReferenceEqualityComparer.Instance), new List<DecodeLayer>());
        for (var i = 0; i < model.Stack.Layers.Count; i++)
        {
            var rope = config.Layer(i).Rope;
            if (rope is not null && !ropes.ContainsKey(rope))
            {
                ropes[rope] = new DecodeRope(rope, config.HeadDimension, rows);
            }

            if (DecodeLayer.Of(model.Stack.Layers[i], i, config, rows, model.DType, rope is null ? null : ropes[rope]) is not { } layer)
            {
                return null;
            }

            layers.Add(layer);
        }

        return new DecodeStep(model, rows, layers, ropes.Values, DecodeNorm.Of(model.Stack.Norm), head);
    }

    /// <inheritdoc/>
    public int Stages => (_layers.Count * DecodeLayer.Stages) + 2;

    private FloatRows Logits => new((nint)_logits.Start, _head.Columns, _state.RowCount);

    /// <summary>Processes one token of each text.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="padding">Number of padding tokens at the start of each text.</param>
    /// <param name="cache">The cache, with at least one token; the new tokens are appended.</param>
    /// <returns>Logits of the next token, [texts, vocabulary]; valid until the next call.</returns>
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
        DecodeLayer.Normalise(_layers.Count > 0 ? _layers[0].Before : _norm, _state);
        ThreadTeam.Shared.Run(this, _state.Threads);
        cache.Advance(Math.Max(0, cache.Length - padding.Min()));
        GC.KeepAlive(_embeddings);
        return _logits.Span;
    }

    /// <inheritdoc/>
    public int Parts(int stage)
    {
        var (layer, ofLayer) = Math.DivRem(stage, DecodeLayer.Stages);
        return layer < _layers.Count ? _layers[layer].Parts(ofLayer, _state) : ofLayer == 0 ? _head.InnerParts(_state.Threads) : _head.Parts(_head.Columns, _state.Threads);
    }

    /// <inheritdoc/>
    public void Run(int stage, int part)
    {
        var (layer, ofLayer) = Math.DivRem(stage, DecodeLayer.Stages);
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
        var (layer, ofLayer) = Math.DivRem(stage, DecodeLayer.Stages);
        if (layer >= _layers.Count)
        {
            return;
        }

        _layers[layer].Finish(ofLayer, _state);
        if (ofLayer == DecodeLayer.Stages - 1)
        {
            DecodeLayer.Normalise(layer + 1 < _layers.Count ? _layers[layer + 1].Before : _norm, _state);
        }
    }

    private void Embed(ReadOnlySpan<int> tokens)
    {
        var (states, config) = (_state.States, _model.Config);
        var multiplier = DecodeMath.Round((float)config.EmbeddingMultiplier, _state.Half && config.RoundsEmbeddingMultiplier);
        for (var row = 0; row < tokens.Length; row++)
        {
            DecodeMath.Read((void*)_embedding.From(tokens[row]).Start, states.Stride, states[row], _state.Half);
            if (multiplier != 1)
            {
                RowSoftmax.Scale(states[row], states.Stride, multiplier);
                DecodeMath.Round(states[row], states.Stride, _state.Half);
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
