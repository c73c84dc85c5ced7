using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>
/// Layers that stand in the place of a model's own: copies of them in another order and number, which share their weights but can have adapters of their
/// own (PEFT's layer_replication).
/// </summary>
internal sealed class LayerReplicas : IDisposable
{
    private LayerReplicas(IReadOnlyList<int> order, IReadOnlyList<DecoderLayer> layers) => (Order, Layers) = (order, layers);

    /// <summary>Index of the own layer of which each is a copy.</summary>
    internal IReadOnlyList<int> Order { get; }

    /// <summary>The layers.</summary>
    internal IReadOnlyList<DecoderLayer> Layers { get; }

    /// <summary>Creates copies of a model's layers.</summary>
    /// <param name="model">The model.</param>
    /// <param name="order">Index of the own layer of each.</param>
    /// <exception cref="InvalidDataException">Layers of the family depend on others, or there is no layer of an index.</exception>
    internal static LayerReplicas Of(CausalLanguageModel model, IReadOnlyList<int> order)
    {
        var config = model.Config;
        if (order.FirstOrDefault(i => i < 0 || i >= config.LayerCount, -1) is var missing and >= 0)
        {
            throw new InvalidDataException($"layer_replication: the model has no layer {missing}; its {config.LayerCount} layers are numbered from 0.");
        }

        if (config.PerLayerInputs is not null || model.Stack.Layers.Any(static l => l.Needs.KeysOf is not null))
        {
            throw new InvalidDataException($"layer_replication: layers of {config.ModelType} read what other layers or the embedding give to them by number, so that they cannot stand in another order.");
        }

        var own = model.Stack.Layers;
        return new LayerReplicas(order, [.. order.Select(i => new DecoderLayer(config.LayerSettings(i), new Source(own[i], config.Names.Layer(i)), config.Names.Layer(i)))]);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // The layers are not disposed of, since that would free quantized weights, which are the model's; of others they have handles of their own.
        foreach (var tensor in Layers.SelectMany(static l => l.parameters().Cast<Tensor>().Concat(l.named_buffers().Select(static b => b.buffer))))
        {
            tensor.Dispose();
        }
    }

    // The weights of a layer, under handles of their own.
    private sealed class Source(DecoderLayer layer, string prefix) : IWeightSource
    {
        private readonly Dictionary<string, Tensor> _tensors = layer.named_parameters().Select(static p => (p.name, Tensor: (Tensor)p.parameter)).Concat(layer.named_buffers().Select(static b => (b.name, Tensor: b.buffer)))
            .ToDictionary(p => $"{prefix}.{p.name}", static p => p.Tensor);

        private readonly Dictionary<string, LinearLayer> _linear = layer.named_modules().Where(static m => m.module is LinearLayer).ToDictionary(m => $"{prefix}.{m.name}.weight", static m => (LinearLayer)m.module);

        private readonly Dictionary<string, Layers.Experts.ExpertMatrix> _experts = layer.named_modules().Where(static m => m.module is Layers.Experts.StackedExperts)
            .SelectMany(m => ((Layers.Experts.StackedExperts)m.module).Matrices.Select(x => (Name: $"{prefix}.{m.name}.{x.Name}", Matrix: x))).ToDictionary(static x => x.Name, static x => x.Matrix);

        public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
        {
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            var parameter = new Parameter(_tensors[name].detach().alias(), requires_grad: false);
            _ = parameter.DetachFromDisposeScope();
            return parameter;
        }

        public QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input) => _linear.GetValueOrDefault(name)?.Quantized;

        public IReadOnlyList<QuantizedWeight>? TakeQuantizedStack(string name, Dimension count, Dimension output, Dimension input, bool isTransposed) => _experts.GetValueOrDefault(name)?.Quantized;
    }
}
