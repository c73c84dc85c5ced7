using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Streams;
using OpenWeights.Tune.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Embedding, layers and final norm: the "model" of a checkpoint.</summary>
internal sealed class DecoderStack : nn.Module<ModelInput, Tensor>
{
    // Registered under the checkpoint's names, which differ among families, so they are not fields registered by field name.
    private readonly Parts _parts;
    private readonly DecoderConfig _config;
    private readonly HashSet<int> _lenders;
    private readonly List<DecoderLayer> _layers;

    /// <summary>Creates the stack described by a config.</summary>
    /// <param name="config">Config of the decoder.</param>
    /// <param name="weights">Source of the weights.</param>
    public DecoderStack(DecoderConfig config, IWeightSource weights)
        : base(nameof(DecoderStack))
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(weights);
        var hidden = new Dimension("hidden_size", config.HiddenSize);
        _config = config;
        var names = config.Names;
        var vocabulary = new Dimension("vocab_size", config.VocabularySize);
        var embedding = weights.TakeQuantizedEmbedding(names.EmbeddingWeight, vocabulary, hidden) is { } quantized
            ? new TokenEmbedding(quantized, weights.DType)
            : new TokenEmbedding(weights.Take(names.EmbeddingWeight, InitialWeight.Normal, vocabulary, hidden));
        var layers = new ModuleList<DecoderLayer>([.. Enumerable.Range(0, config.LayerCount).Select(i =>
        {
            var layer = new DecoderLayer(config.LayerSettings(i), weights, names.Layer(i));
            weights.Made(layer);
            return layer;
        })]);
        _layers = [.. layers];
        _lenders = [.. layers.Select(static l => l.Needs.KeysOf).OfType<int>()];
        _parts = new Parts(
            this.Register(names.Embedding, embedding), this.Register(names.Layers, layers), this.Register(names.FinalNorm, config.Norm.Take(weights, $"{names.Stack}.{names.FinalNorm}", hidden)),
            config.PerLayerInputs is { } inputs ? new PerLayerInputs(this, inputs, weights, names.Stack) : null,
            config.Streams is { } streams ? new StreamProjections(this, streams, weights, names.Stack) : null);
    }

    /// <summary>The token embedding.</summary>
    public TokenEmbedding Embedding => _parts.Embedding;

    /// <summary>The layers in use.</summary>
    internal IReadOnlyList<DecoderLayer> Layers => Replicas?.Layers ?? _layers;

    /// <summary>The devices of a model that is on several; null for one.</summary>
    internal LayerPlacement? Placement { get; set; }

    /// <summary>Layers that stand in the place of the model's own; null for those.</summary>
    internal LayerReplicas? Replicas { get; set; }

    /// <summary>The final norm.</summary>
    internal Norm Norm => _parts.Norm;

    /// <summary>The tokens that switch the adapter on; null if it applies to all tokens.</summary>
    internal InvocationTokens? Invocation { get; set; }

    /// <summary>The adapters that rows of a batch can have; null if none are active by row.</summary>
    internal IRowAdapters? RowAdapters { get; set; }

    /// <summary>Virtual tokens of an adapter ahead of every text; null for none.</summary>
    public IVirtualTokens? Virtual { get; set; }

    /// <summary>Whether texts are embedded with attention that looks both ways; generating text needs a model without.</summary>
    public bool IsBidirectional { get; set; }

    /// <summary>Activation checkpointing.</summary>
    public ActivationCheckpointing ActivationCheckpointing { get; set; }

    /// <summary>Whether the activations stored by checkpointing are offloaded to CPU memory.</summary>
    public bool OffloadsActivations { get; set; }

    /// <summary>Called in a backward pass with the index of each layer whose gradients are complete; null for none.</summary>
    internal Action<int>? LayerPassed { get; set; }

    /// <summary>What becomes of weights and gradients that ranks share out; null where this process has all of them.</summary>
    internal ILayerWeights? LayerWeights { get; set; }

    /// <summary>NEFTune (Jain et al., 2023): strength alpha of the noise on the embeddings where gradients are computed; 0 for none.</summary>
    public double EmbeddingNoise { get; set; }

    /// <summary>Computes hidden states after the final norm, [batch, tokens, hidden], from token ids.</summary>
    /// <exception cref="InvalidOperationException">The text cannot continue its cache: see <see cref="Continues"/>.</exception>
    public override Tensor forward(ModelInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        IReadOnlyList<ModelInput> texts = input.Texts ?? [];
        if (texts.Append(input).Any(t => t.Cache is { } cache && !Continues(cache, t.LongestPosition)))
        {
            throw new InvalidOperationException("the cached keys were rotated for a shorter text; process the whole text again with an empty cache.");
        }

        using var scope = NewDisposeScope();
        var (tokens, begins) = ((int)input.InputIds.size(1), Virtual is not null && input.Cache is not { Length: > 0 });
        if (Virtual is not null)
        {
            RequireWhole(input);
            input = input.WithVirtual(Virtual.Count);
        }

        var draws = is_grad_enabled() && input.Cache is null && input.Texts is null;
        if (draws)
        {
            RandomState.Begin(input.InputIds.device);
        }

        var adapted = Adapted(input, input.Cache?.Length ?? 0);
        using var rows = Rows(input, tokens, adapted);
        var embeddings = Begun(draws ? Noisy(Embed(input.InputIds)) : Embed(input.InputIds), begins);
        var contexts = Contexts(input, embeddings);
        var states = Open(embeddings);
        var checkpointing = ActivationCheckpointing != ActivationCheckpointing.None && draws;
        if (LayerWeights is not null && draws && !checkpointing)
        {
            throw new InvalidOperationException("weights that ranks share out are trained with activation checkpointing; set training.activation_checkpointing: block");
        }

        if (checkpointing && !states.requires_grad)
        {
            // With a frozen embedding the input of the first layer has no gradient, but recomputed layers must still take part in backward.
            states = states.detach().requires_grad_();
        }

        for (var i = 0; i < Layers.Count; i++)
        {
            WorkMarks.Set();
            var (layer, context) = (Layers[i], contexts.Of(Layers[i], i) with { Adapted = adapted });
            if (Placement is { } placement)
            {
                (states, context) = (states.to(placement.Of(i)), contexts.On(placement.Of(i), context));
            }

            if (draws && LayerPassed is { } passed && states.requires_grad)
            {
                states = LayerGate.Run(states, i, passed);
            }

            if (checkpointing && (LayerWeights is not null || !IsKept(i, states.device)))
            {
                states = CheckpointedLayer.Run(states, layer, context, new LayerCheckpoint(KeepsAttention(states.device), OffloadsActivations) { Index = i, Weights = LayerWeights });
                continue;
            }

            if (draws)
            {
                RandomState.Begin(states.device);
            }

            LayerWeights?.Enter(i, isBackward: false);
            states = layer.call(states, context);
            LayerWeights?.Leave(i, isBackward: false, returns: false);
        }

        input.Cache?.Advance(tokens, input.LongestPosition, begins ? Virtual!.Count : 0);
        foreach (var text in texts)
        {
            text.Cache?.Advance((int)text.InputIds.size(1), text.LongestPosition);
        }

        var closed = Close(states);
        return (begins ? closed.narrow(1, Virtual!.Count, tokens).contiguous() : closed).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Whether a text up to a position can continue a cache. If rotary frequencies depend on the length of the text, keys cached before a change
    /// of frequencies are invalid, and the text must be processed again.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="longestPosition">Largest position of the continued text.</param>
    public bool Continues(DecoderCache cache, long longestPosition)
    {
        ArgumentNullException.ThrowIfNull(cache);
        return cache.Length == 0 || Layers.All(l => l.Needs.Rope?.AreSame(cache.LongestPosition + 1, longestPosition + 1 + cache.Virtual) != false);
    }

    /// <summary>The tokens of a batch to which an adapter applies, [batch, tokens, 1], in the current dispose scope; null if none applies to some tokens only.</summary>
    /// <param name="input">The batch.</param>
    /// <param name="past">Number of tokens in the cache before those of the batch.</param>
    internal Tensor? Adapted(ModelInput input, int past) => Invocations(input.Adapters, (int)input.InputIds.size(0)) is { } ofRows ? InvocationTokens.Mask(input, ofRows, past) : null;

    /// <summary>The tokens that switch on the adapter of each row; null if all adapters apply to all tokens.</summary>
    /// <param name="adapters">Name of each row's adapter; null if all rows compute alike.</param>
    /// <param name="rows">Number of rows.</param>
    /// <exception cref="InvalidOperationException">No adapters are active by row.</exception>
    internal IReadOnlyList<InvocationTokens?>? Invocations(IReadOnlyList<string?>? adapters, int rows)
    {
        if (adapters is null)
        {
            return Invocation is null ? null : [.. Enumerable.Repeat(Invocation, rows)];
        }

        var chosen = RowAdapters ?? throw new InvalidOperationException("no adapters are active by row; call AdapterSet.UseByRow first");
        if (adapters.Count != rows)
        {
            throw new ArgumentException($"{adapters.Count} adapters are named for a batch of {rows} rows", nameof(adapters));
        }

        var found = adapters.Select(name => name is null ? null : chosen.InvocationOf(name)).ToList();
        return found.TrueForAll(static f => f is null) ? null : found;
    }

    /// <summary>Tells modules which adapter each row of a batch has, until the result is disposed; null if all rows compute alike.</summary>
    /// <param name="input">The batch.</param>
    /// <param name="tokens">Number of tokens of a row that the modules see.</param>
    /// <param name="adapted">What <see cref="Adapted"/> gives for them.</param>
    internal static AdapterRows? Rows(ModelInput input, long tokens, Tensor? adapted) => input.Adapters is null ? null
        : is_grad_enabled() ? throw new InvalidOperationException("adapters by row are for a model that is not trained; compute the batch without gradients (torch.no_grad)")
        : new AdapterRows(input.Adapters, tokens, input.InputIds.device, adapted);

    // Documents packed in one row share its virtual tokens, which is exact where every token attends to all before it.
    private void RequireWhole(ModelInput input)
    {
        if (input.DocumentLengths is not null && Layers.Any(static l => l.Needs.SlidingWindow is not null || l.Needs.ChunkSize is not null))
        {
            throw new InvalidDataException("data.packing: this family attends within a window, so that virtual tokens need rows of one text each; set data.packing: false.");
        }
    }

    // The first tokens are virtual ones with embeddings of their own.
    private Tensor Begun(Tensor embeddings, bool begins) => !begins || Virtual!.Embeddings() is not { } own ? embeddings
        : cat([own.to(embeddings.dtype).to(embeddings.device).unsqueeze(0).expand(embeddings.size(0), -1, -1), embeddings.narrow(1, Virtual!.Count, embeddings.size(1) - Virtual!.Count)], 1);

    /// <summary>What a forward pass tells the layers; its tensors are in the caller's dispose scope.</summary>
    /// <param name="input">The batch.</param>
    /// <param name="embeddings">Its embeddings.</param>
    internal LayerContexts Contexts(ModelInput input, Tensor embeddings) => new(input, embeddings.dtype)
    {
        PerLayerInputs = _parts.PerLayerInputs?.Compute(AtFirst(input.InputIds), embeddings),
        Lenders = _lenders,
        Virtual = input.VirtualTokens > 0 && input.Cache is not { Length: > 0 } ? Virtual : null,
    };

    /// <summary>The input of the first layer: the embeddings, or several streams of them, [streams, batch, tokens, hidden].</summary>
    /// <param name="embeddings">The embeddings.</param>
    internal Tensor Open(Tensor embeddings) => _parts.Streams?.Open(embeddings) ?? embeddings;

    /// <summary>Hidden states after the final norm, [batch, tokens, hidden], from the output of the last layer; in the caller's dispose scope.</summary>
    /// <param name="states">The output of the last layer.</param>
    internal Tensor Close(Tensor states)
    {
        using var scope = NewDisposeScope();
        return Norm.call(AtLast(_parts.Streams?.Close(AtFirst(states)) ?? states)).MoveToOuterDisposeScope();
    }

    /// <summary>The embeddings, [batch, tokens, hidden].</summary>
    internal Tensor Embed(Tensor ids)
    {
        if (Placement is not null)
        {
            using var outer = NewDisposeScope();
            var states = Multiplied(Embedding.call(ids.to(Embedding.Device)));
            return AtFirst(_config.NormalizesEmbedding ? Norm.call(AtLast(states)) : states).MoveToOuterDisposeScope();
        }

        if (_config.NormalizesEmbedding)
        {
            using var inner = NewDisposeScope();
            return Norm.call(Multiplied(Embedding.call(ids))).MoveToOuterDisposeScope();
        }

        return Multiplied(Embedding.call(ids));
    }

    private Tensor AtFirst(Tensor states) => Placement is null ? states : states.to(Placement.First);

    private Tensor AtLast(Tensor states) => Placement is null ? states : states.to(Placement.Last);

    /// <summary>Embeddings with noise, as transformers and TRL add it: uniform within alpha / sqrt(tokens x hidden), padding counted.</summary>
    /// <param name="states">The embeddings.</param>
    internal Tensor Noisy(Tensor states)
    {
        if (EmbeddingNoise == 0)
        {
            return states;
        }

        using var scope = NewDisposeScope();
        var most = EmbeddingNoise / Math.Sqrt(states.size(1) * states.size(2));
        return states.add(zeros_like(states).uniform_(-most, most)).MoveToOuterDisposeScope();
    }

    private Tensor Multiplied(Tensor states)
    {
        if (_config.EmbeddingMultiplier == 1)
        {
            return states;
        }

        using Scalar multiplier = _config.EmbeddingMultiplier;
        if (!_config.RoundsEmbeddingMultiplier)
        {
            return states.mul(multiplier);
        }

        using var scope = NewDisposeScope();
        return states.mul(ones([1], WideNumbers.Of(states.dtype), states.device).mul(multiplier).to(states.dtype)).MoveToOuterDisposeScope();
    }

    // The CPU's attention can reuse its stored output; the GPU's is torch's own, which cannot.
    private bool KeepsAttention(Device device) => ActivationCheckpointing == ActivationCheckpointing.Selective && device.type == DeviceType.CPU;

    private bool IsKept(int layer, Device device) => ActivationCheckpointing == ActivationCheckpointing.Selective && !KeepsAttention(device) && layer % 2 == 1;

    private sealed record Parts(TokenEmbedding Embedding, ModuleList<DecoderLayer> Layers, Norm Norm, PerLayerInputs? PerLayerInputs, StreamProjections? Streams);
}
