using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A decoder with its output head. Parameters have the names of the checkpoint.</summary>
internal sealed class CausalLanguageModel : nn.Module<ModelInput, Tensor>
{
    // The layers by name, and those in use if others stand in their place.
    private readonly ModuleLists _own;
    private ModuleLists? _used;

    // Registered under the checkpoint's names, which differ among families, so they are not fields registered by field name. A tied head is
    // the embedding's parameter without a name of its own.
    private readonly (DecoderStack Stack, LinearLayer Head) _parts;

    /// <summary>Creates the model described by a config.</summary>
    /// <param name="config">Config of the decoder.</param>
    /// <param name="weights">Source of the weights.</param>
    public CausalLanguageModel(DecoderConfig config, IWeightSource weights)
        : base(nameof(CausalLanguageModel))
    {
        ArgumentNullException.ThrowIfNull(config);
        Config = config;
        RouterLossWeight = config.RouterLossWeight;
        var names = config.Names;
        var stack = this.Register(names.Stack, new DecoderStack(config, weights));
        _parts = (stack, config.Labels is { } labels ? this.Register(LabelHead.Module, NewLabels(weights, labels)) : config.TiedEmbeddings ? TiedHead(stack.Embedding) : this.Register(names.Head, NewHead(weights)));
        _own = Listed(named_modules());
    }

    /// <summary>Config of the decoder.</summary>
    public DecoderConfig Config { get; }

    /// <summary>Coefficient of the load balancing loss in training, at first config.json's; 0 for none.</summary>
    public double RouterLossWeight { get; set; }

    /// <summary>Whether the model has mixtures of experts with a router.</summary>
    internal bool HasRouters => Config.RoutedExperts is not null;

    /// <summary>The folder the weights were loaded from; null for another source.</summary>
    internal string? SourceFolder { get; init; }

    /// <summary>Whether the weights have shapes but no values (meta weights).</summary>
    internal bool IsMeta { get; init; }

    /// <summary>The output head; if tied, a layer around the embedding's parameter.</summary>
    public LinearLayer Head => _parts.Head;

    /// <summary>The decoder without the head.</summary>
    public DecoderStack Stack => _parts.Stack;

    /// <summary>All linear layers by name, such as model.layers.0.self_attn.q_proj, including lm_head unless it is tied.</summary>
    public IReadOnlyList<(string Name, LinearLayer Layer)> LinearLayers => (_used ?? _own).Linear;

    /// <summary>The matrices of all mixtures by the name of their parameter, such as model.layers.0.mlp.experts.down_proj.</summary>
    internal IReadOnlyList<(string Name, ExpertMatrix Matrix)> ExpertMatrices => (_used ?? _own).Experts;

    /// <summary>
    /// Modules that an adapter can target, by the names of the reference implementation: <see cref="LinearLayers"/>, the token embedding,
    /// the norms, and lm_head even if it is tied.
    /// </summary>
    public IReadOnlyList<(string Name, nn.Module Module)> AdaptableModules => Adaptable(Modules());

    /// <summary>As <see cref="AdaptableModules"/>, of the model's own layers, whatever stands in their place.</summary>
    internal IReadOnlyList<(string Name, nn.Module Module)> OwnModules => Adaptable(named_modules());

    /// <summary>Number of layers in use.</summary>
    public int LayerCount => Stack.Layers.Count;

    /// <summary>All tensors of a checkpoint by name: the parameters, without quantized ones, and the buffers, which are never trained.</summary>
    internal IEnumerable<(string Name, Tensor Tensor)> StoredTensors =>
        [.. named_parameters().Select(static p => (p.name, (Tensor)p.parameter)), .. named_buffers().Select(static b => (b.name, b.buffer))];

    /// <summary>Number of parameters, including quantized ones.</summary>
    public long ParameterCount => parameters().Sum(static p => p.numel()) + Quantized.Sum(static w => w.Count);

    /// <summary>Size of all parameters in memory, in bytes.</summary>
    public long ParameterBytes => parameters().Sum(static p => p.numel() * p.element_size()) + Quantized.Sum(static w => w.ByteLength);

    /// <summary>The types in which weights of a GGUF file are held, with their bytes, those with most first.</summary>
    public IReadOnlyList<(string Type, long Bytes)> HeldBlocks =>
        [.. Quantized.SelectMany(static w => w.Pieces).OfType<GgufWeight>().GroupBy(static w => w.Type).Select(static g => (g.Key.ToString(), g.Sum(static w => w.ByteLength))).OrderByDescending(static h => h.Item2)];

    /// <summary>All quantized weights.</summary>
    internal IEnumerable<QuantizedWeight> Quantized =>
        LinearLayers.Select(static l => l.Layer.Quantized).Append(Stack.Embedding.Quantized).OfType<QuantizedWeight>().Concat(ExpertMatrices.SelectMany(static m => m.Matrix.Quantized ?? []));

    /// <summary>Number of tokens that the model knows: the config's, or that of an embedding which an adapter brings.</summary>
    public int VocabularySize => (int)Stack.Embedding.Count;

    /// <summary>Device of the weights; of a model on several devices that of the head, where batches and losses are.</summary>
    public Device Device => Placement?.Last ?? Stack.Embedding.Device;

    /// <summary>The devices of a model that is on several; null for one.</summary>
    public LayerPlacement? Placement
    {
        get => Stack.Placement;
        init => Stack.Placement = value;
    }

    /// <summary>The devices of the weights.</summary>
    public IReadOnlyList<Device> Devices => Placement?.Devices ?? [Device];

    /// <summary>Device of a module or tensor of the model or an adapter on it.</summary>
    /// <param name="name">Its name, such as model.layers.3.mlp.</param>
    internal Device DeviceOf(string name) => Placement?.Of(name) ?? Device;

    /// <summary>Data type of the weights.</summary>
    public ScalarType DType => Stack.Embedding.DType;

    /// <summary>A record for the router logits of a training pass; null if there is no load balancing loss.</summary>
    internal RouterRecord? NewRouterRecord() => RouterLossWeight > 0 && Config.RoutedExperts is { } chosen ? new RouterRecord(chosen) : null;

    /// <summary>
    /// Computes hidden states after the final norm, [batch, tokens, hidden]; <see cref="Logits"/> computes logits from them.
    /// </summary>
    public override Tensor forward(ModelInput input) => Stack.call(input);

    /// <summary>Logits of the next token, [..., vocabulary], in float32; with a head of labels their scores, [..., labels]. In float64 for a float64 model.</summary>
    /// <param name="hidden">Hidden states, [..., hidden].</param>
    /// <param name="input">The batch whose states they are, or those of the last tokens of its rows; needed if the head has adapters by row, or one that
    /// applies to some tokens only (aLoRA).</param>
    public Tensor Logits(Tensor hidden, ModelInput? input = null)
    {
        ArgumentNullException.ThrowIfNull(hidden);
        using var scope = NewDisposeScope();
        var given = Head.Adapter is null ? null : input;
        var tokens = given is null ? 0 : hidden.size(1);
        Stack.LayerWeights?.Enter(LayerCount, isBackward: false);
        var adapted = given is null ? null : AdaptedHead(given)?.narrow(1, given.InputIds.size(1) - tokens, tokens);
        using var some = AdaptedTokens.Use(adapted ?? AdaptedTokens.Current);
        using var rows = given is null ? null : DecoderStack.Rows(given, tokens, adapted);
        var logits = Head.call(hidden).Widened();
        if (Config.LogitMultiplier != 1)
        {
            using Scalar multiplier = Config.LogitMultiplier;
            logits = logits.mul(multiplier);
        }

        if (Config.LogitSoftCap is { } limit)
        {
            using Scalar inverse = 1 / limit;
            using Scalar cap = limit;
            logits = logits.mul(inverse).tanh().mul(cap);
        }

        return logits.MoveToOuterDisposeScope();
    }

    /// <summary>The tokens of a batch that was computed to which the head's adapter applies, [batch, tokens, 1], in the current dispose scope; null if it applies to all.</summary>
    /// <param name="input">The batch.</param>
    internal Tensor? AdaptedHead(ModelInput input) =>
        Head.Adapter is null ? null : Stack.Adapted(input, input.Cache is { } cache ? cache.Length - (int)input.InputIds.size(1) : 0);

    /// <summary>Of the tokens of a batch that was computed, those to which the head's adapter applies, [count, 1], in the current dispose scope; null if it applies to all.</summary>
    /// <param name="input">The batch.</param>
    /// <param name="picked">The tokens, counted row by row, int64.</param>
    internal Tensor? AdaptedHead(ModelInput input, Tensor picked) => AdaptedHead(input)?.view(-1, 1).index_select(0, picked);

    /// <summary>
    /// Whether a row may hold texts with a common beginning, which is computed once: every layer is attention that looks at all earlier tokens, and
    /// no adapter adds or looks for tokens.
    /// </summary>
    /// <param name="tokens">Length of the row.</param>
    internal bool CanShareBeginnings(int tokens) => Stack is { Virtual: null, Invocation: null }
        && Stack.Layers.All(l => !l.Needs.Restarts && Math.Min(l.Needs.SlidingWindow ?? int.MaxValue, l.Needs.ChunkSize ?? int.MaxValue) >= tokens);

    /// <summary>Puts layers in the place of the model's own, or, with null, its own back.</summary>
    /// <param name="replicas">The layers; the caller keeps ownership.</param>
    internal void Use(LayerReplicas? replicas)
    {
        Stack.Replicas = replicas;
        _used = replicas is null ? null : Listed(Modules());
    }

    private IReadOnlyList<(string Name, nn.Module Module)> Adaptable(IEnumerable<(string name, nn.Module module)> modules) =>
        [.. modules.Where(static m => m.module is IWeighted { Slots.Count: > 0 }), .. Config.TiedEmbeddings ? [(Config.Names.Head, Head)] : Array.Empty<(string, nn.Module)>()];

    // All modules, those of the layers in use under the numbers that these have.
    private IEnumerable<(string Name, nn.Module Module)> Modules()
    {
        if (Stack.Replicas is not { } replicas)
        {
            return named_modules();
        }

        var layers = $"{Config.Names.Stack}.{Config.Names.Layers}.";
        var others = named_modules().ToList();
        var before = others.FindIndex(m => m.name.StartsWith(layers, StringComparison.Ordinal));
        return
        [
            .. others.Take(before), .. replicas.Layers.SelectMany((layer, i) => layer.named_modules().Select(m => ($"{Config.Names.Layer(i)}.{m.name}", m.module))),
            .. others.Skip(before).Where(m => !m.name.StartsWith(layers, StringComparison.Ordinal)),
        ];
    }

    private static ModuleLists Listed(IEnumerable<(string Name, nn.Module Module)> modules)
    {
        var all = modules.ToList();
        return new ModuleLists(
            [.. all.Where(static m => m.Module is LinearLayer).Select(static m => (m.Name, (LinearLayer)m.Module))],
            [.. all.Where(static m => m.Module is StackedExperts).SelectMany(static m => ((StackedExperts)m.Module).Matrices.Select(x => ($"{m.Name}.{x.Name}", x)))]);
    }

    private static LinearLayer TiedHead(TokenEmbedding embedding) =>
        embedding.Quantized is { } quantized ? new LinearLayer(quantized, null) : new LinearLayer(embedding.Weight, null);

    private LinearLayer NewHead(IWeightSource weights)
    {
        var head = LinearLayer.Take(weights, Config.Names.Head, new Dimension("vocab_size", Config.VocabularySize), new Dimension("hidden_size", Config.HiddenSize), Config.HeadBias);
        weights.Made(head);
        return head;
    }

    private LinearLayer NewLabels(IWeightSource weights, LabelHead labels) =>
        LinearLayer.Take(weights, LabelHead.Module, new Dimension("id2label", labels.Names.Count), new Dimension("hidden_size", Config.HiddenSize), hasBias: false);

    private sealed record ModuleLists(IReadOnlyList<(string Name, LinearLayer Layer)> Linear, IReadOnlyList<(string Name, ExpertMatrix Matrix)> Experts);
}
