using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>
/// Computes the next token of a few texts on the CPU: the same as <see cref="CausalLanguageModel"/> with a cache, but in a few stages per
/// layer that threads compute together, reading each weight once and allocating no tensors. It stores addresses of the model's weights and
/// is valid as long as neither the weights nor the adapters change.
/// </summary>
internal sealed unsafe class DecodeStep : IStagedWork
{
    /// <summary>Maximum number of texts.</summary>
    internal const int MaxRows = 16;

    private readonly CausalLanguageModel _model;
    private readonly IReadOnlyList<DecodeBlock> _blocks;
    private readonly (int Block, int Stage)[] _stages;
    private readonly DecodeNorm _norm;
    private readonly DecodeProducts _head;
    private readonly DecodeState _state;
    private readonly IReadOnlyList<DecodeRope> _ropes;
    private readonly IReadOnlyList<DecodeProducts> _products;
    private readonly object _embeddings;
    private readonly MatrixRows _embedding;
    private readonly DecodeBuffer _logits;

    private DecodeStep(CausalLanguageModel model, nint rows, IReadOnlyList<DecodeBlock> blocks, DecodePlan plan, DecodeNorm norm, DecodeProducts head)
    {
        (_model, _blocks, _ropes, _products, _norm, _head) = (model, blocks, [.. plan.Ropes], plan.AllProducts, norm, head);

        // After those of its part a block has one in which the outputs are added to the residual stream.
        _stages = [.. blocks.SelectMany(static (block, i) => Enumerable.Range(0, block.Part.Stages + 1).Select(stage => (i, stage)))];
        var embedding = model.Stack.Embedding;
        (_embeddings, _embedding) = ((object?)embedding.Slots[0].Current ?? embedding.Quantized!, embedding.InMemory!);
        var works = blocks.Select(static b => b.Part.Widths).ToList();
        _state = new DecodeState(
            rows, model.DType == ScalarType.BFloat16, model.Config.HiddenSize, Enumerable.Range(0, works.Max(static w => w.Count)).Select(i => works.Where(w => i < w.Count).Max(w => w[i])));
        _logits = new DecodeBuffer(rows * head.Columns);
    }

    /// <summary>
    /// Builds the decode step for a few texts, valid as long as neither weights nor adapters change. Null if it is not supported: for too
    /// many texts, on another device than the CPU, for other mixers than plain attention, for adapters other than LoRA on linear layers, and for weights that ranks share out.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="rows">Number of texts.</param>
    internal static DecodeStep? Of(CausalLanguageModel model, int rows)
    {
        var embedding = model.Stack.Embedding;
        if (rows > MaxRows || model.Stack.LayerWeights is { HasAll: false } || model.Stack.RowAdapters is not null || embedding.Adapter is not null || (rows > 1 && model.Stack.Virtual is not null) || model.DType is not (ScalarType.Float32 or ScalarType.BFloat16) || embedding.InMemory is null || !BitConverter.IsLittleEndian
            || DecodeNorm.Of(model.Stack.Norm) is not { } norm)
        {
            return null;
        }

        var (plan, blocks) = (new DecodePlan(rows, model.DType), new List<DecodeBlock>());
        if (plan.Products(model.Head) is not { } head)
        {
            return null;
        }

        for (var i = 0; i < model.Stack.Layers.Count; i++)
        {
            if (DecodeBlock.Of(model.Stack.Layers[i], i, plan) is not { } layer)
            {
                return null;
            }

            blocks.AddRange(layer);
        }

        return new DecodeStep(model, rows, blocks, plan, norm, head);
    }

    /// <inheritdoc/>
    public int Stages => _stages.Length + 2;

    private FloatRows Logits => new((nint)_logits.Start, _head.Columns, _state.RowCount);

    /// <summary>Makes an adapter known that rows can have; false if it is more than low-rank updates of these layers.</summary>
    /// <param name="adapter">The adapter.</param>
    internal bool TryKnow(PeftAdapter adapter)
    {
        var updates = adapter.Layers.Select(static l => (l.Target, Update: ((ILinearAdapter)l).PlainUpdate)).ToList();
        var layers = _products.SelectMany(static p => p.Layers).ToHashSet();
        if (updates.Count != adapter.Parts.Count || !updates.TrueForAll(u => u.Update is { } update && CpuKernel.Serves(update.A, update.B) && layers.Contains(u.Target)))
        {
            return false;
        }

        foreach (var products in _products)
        {
            products.Know(adapter, layer => updates.Find(u => ReferenceEquals(u.Target, layer)).Update);
        }

        return true;
    }

    /// <summary>Processes one token of each of some independent texts.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="tables">Where keys and values of the texts are; those of the tokens are written there.</param>
    /// <param name="groups">Rows that have adapters.</param>
    /// <returns>Logits of the next token, [texts, vocabulary]; valid until the next call.</returns>
    internal Span<float> Read(ReadOnlySpan<int> tokens, DecodeTables tables, IReadOnlyList<DecodeGroup> groups)
    {
        foreach (var products in _products)
        {
            products.Use(groups);
        }

        _state.Begin(tables, get_num_threads());
        return Run(tokens);
    }

    /// <summary>Processes one token of each text.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="padding">Number of padding tokens at the start of each text.</param>
    /// <param name="cache">The cache, with at least one token; the new tokens are appended.</param>
    /// <returns>Logits of the next token, [texts, vocabulary]; valid until the next call.</returns>
    internal Span<float> Read(ReadOnlySpan<int> tokens, int[] padding, DecoderCache cache)
    {
        _state.Begin(cache, padding, get_num_threads());
        var logits = Run(tokens);
        cache.Advance(1, Math.Max(0, cache.Held - padding.Min()));
        return logits;
    }

    private Span<float> Run(ReadOnlySpan<int> tokens)
    {
        foreach (var rope in _ropes)
        {
            rope.Begin(_state.Positions, _state.Half);
        }

        foreach (var block in _blocks)
        {
            block.Begin(_state);
        }

        Embed(tokens);
        for (nint row = 0; row < _state.RowCount; row++)
        {
            DecodeBlock.Normalise(BeforeBlock(0), _state, row);
        }

        ThreadTeam.Shared.Run(this, _state.Threads);
        GC.KeepAlive(_embeddings);
        return _logits.Span[..(int)(tokens.Length * _head.Columns)];
    }

    /// <inheritdoc/>
    public int Parts(int stage)
    {
        if (stage < _stages.Length)
        {
            var (block, ofBlock) = _stages[stage];
            return IsLast(stage) ? _state.RowParts : _blocks[block].Part.Parts(ofBlock, _state);
        }

        return stage == _stages.Length ? _head.InnerParts(_state.Threads) : _head.Parts(_head.Columns, _state.Threads);
    }

    /// <inheritdoc/>
    public void Run(int stage, int part)
    {
        if (stage < _stages.Length)
        {
            var (block, ofBlock) = _stages[stage];
            if (IsLast(stage))
            {
                Add(block, part);
            }
            else
            {
                _blocks[block].Part.Run(ofBlock, part, _state);
            }
        }
        else if (stage == _stages.Length)
        {
            _head.RunInner(part, Parts(stage), _state.Normed);
        }
        else
        {
            Score(part, Parts(stage));
        }
    }

    /// <inheritdoc/>
    public void Fetch(int stage, int thread, int threads)
    {
        for (; stage < _stages.Length; stage++)
        {
            var (block, ofBlock) = _stages[stage];
            if (!IsLast(stage) && _blocks[block].Part.Fetch(ofBlock, thread, threads))
            {
                return;
            }
        }

        _ = _head.Fetch(0, _head.Columns, (thread, threads));
    }

    /// <inheritdoc/>
    public void Finish(int stage)
    {
        if (stage >= _stages.Length)
        {
            return;
        }

        var (block, ofBlock) = _stages[stage];
        if (!IsLast(stage))
        {
            _blocks[block].Part.Finish(ofBlock, _state);
        }
        else if (_state.RowParts == 0)
        {
            Add(block, 0);
        }
    }

    // Whether a stage of a block is the one after those of its part.
    private bool IsLast(int stage) => _stages[stage].Stage == _blocks[_stages[stage].Block].Part.Stages;

    // Adds the output of a block to the residual stream of a row, and computes the input of the next one.
    private void Add(int block, nint row)
    {
        _blocks[block].Add(_state, row);
        DecodeBlock.Normalise(BeforeBlock(block + 1), _state, row);
    }

    // Norm of a block's input, or of the head's after the last block.
    private DecodeNorm? BeforeBlock(int block) => block < _blocks.Count ? _blocks[block].Before : _norm;

    private void Embed(ReadOnlySpan<int> tokens)
    {
        var (states, config) = (_state.States, _model.Config);
        var multiplier = DecodeMath.Round((float)config.EmbeddingMultiplier, _state.Half && config.RoundsEmbeddingMultiplier);
        for (var row = 0; row < tokens.Length; row++)
        {
            _embedding.Read(tokens[row], 1, states[row]);
            DecodeMath.Round(states[row], states.Stride, _state.Half);
            if (multiplier != 1)
            {
                DecodeMath.Multiply(states[row], states.Stride, multiplier, _state.Half);
            }

            if (config.NormalizesEmbedding)
            {
                _norm.Apply(states[row], states[row], _state.Half);
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
