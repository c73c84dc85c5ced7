using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Projections;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>y = x Wᵀ + b, and what an adapter makes of it. W may be held quantised.</summary>
public sealed class LinearLayer : nn.Module<Tensor, Tensor>, IWeighted
{
    [ComponentName(Name = "weight")]
    private readonly Parameter? _weight;

    [ComponentName(Name = "bias")]
    private readonly Parameter? _bias;

    private readonly WeightSlot _weightSlot;
    private readonly WeightSlot? _biasSlot;

    /// <summary>A layer around weights that are already there.</summary>
    /// <param name="weight">[out, in].</param>
    /// <param name="bias">[out], or null.</param>
    public LinearLayer(Parameter weight, Parameter? bias)
        : this(weight, null, bias, weight?.size(0) ?? 0, weight?.size(-1) ?? 0) => ArgumentNullException.ThrowIfNull(weight);

    /// <summary>A layer whose weight is held quantised; it becomes the layer's to dispose.</summary>
    /// <param name="weight">[out, in].</param>
    /// <param name="bias">[out], or null.</param>
    public LinearLayer(QuantizedWeight weight, Parameter? bias)
        : this(null, weight, bias, weight?.OutFeatures ?? 0, weight?.InFeatures ?? 0) => ArgumentNullException.ThrowIfNull(weight);

    private LinearLayer(Parameter? weight, QuantizedWeight? quantized, Parameter? bias, long outFeatures, long inFeatures)
        : base(nameof(LinearLayer))
    {
        _weight = weight;
        _bias = bias;
        Quantized = quantized;
        OutFeatures = outFeatures;
        InFeatures = inFeatures;
        _weightSlot = new WeightSlot("weight", _weight);
        _biasSlot = _bias is null ? null : new WeightSlot("bias", _bias);
        RegisterComponents();
    }

    /// <summary>Width of the output.</summary>
    public long OutFeatures { get; }

    /// <summary>Width of the input.</summary>
    public long InFeatures { get; }

    /// <summary>The weight that is computed with, [out, in].</summary>
    /// <exception cref="InvalidOperationException">The weight is held quantised; <see cref="DenseRows"/> gives its values.</exception>
    public Parameter Weight => _weightSlot.Current ?? throw new InvalidOperationException("the layer's weight is held quantised");

    /// <summary>The weight where it is held quantised, else null.</summary>
    public QuantizedWeight? Quantized { get; }

    /// <summary>The bias that is computed with, [out], or null.</summary>
    public Parameter? Bias => _biasSlot?.Current;

    /// <inheritdoc/>
    public IReadOnlyList<WeightSlot> Slots => _biasSlot is null ? [_weightSlot] : [_weightSlot, _biasSlot];

    /// <summary>What changes the layer's output; null where nothing does.</summary>
    public ILinearAdapter? Adapter { get; set; }

    /// <summary>Takes a layer's weight and, where it has one, bias from a source.</summary>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The layer's name, without .weight.</param>
    /// <param name="output">The output's width.</param>
    /// <param name="input">The input's width.</param>
    /// <param name="hasBias">Whether there is a bias.</param>
    public static LinearLayer Take(IWeightSource weights, string name, Dimension output, Dimension input, bool hasBias)
    {
        ArgumentNullException.ThrowIfNull(weights);
        var quantized = weights.TakeQuantized($"{name}.weight", output, input);
        var weight = quantized is null ? weights.Take($"{name}.weight", InitialWeight.Normal, output, input) : null;
        return new LinearLayer(weight, quantized, hasBias ? weights.Take($"{name}.bias", InitialWeight.Zeros, output) : null, output.Size, input.Size);
    }

    /// <summary>What several layers make of the same states, each [..., out], in the caller's dispose scope.</summary>
    /// <param name="states">[..., in].</param>
    /// <param name="norm">What normalises the states first, or null.</param>
    /// <param name="layers">The layers.</param>
    internal static List<Tensor> Outputs(Tensor states, Norm? norm, params LinearLayer[] layers)
    {
        if (ProjectionGroup.Serves(layers))
        {
            return ProjectionGroup.Run(norm?.Before(states) ?? new PlainInput(states), layers);
        }

        var input = norm?.call(states) ?? states;
        return [.. layers.Select(layer => layer.call(input))];
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        if (Projection.Serves(this))
        {
            return ProjectionGroup.Run(new PlainInput(input), this)[0];
        }

        if (Adapter is null)
        {
            return Plain(input, Bias);
        }

        using var scope = NewDisposeScope();
        return Adapter.Apply(this, input, Plain(input, Bias)).MoveToOuterDisposeScope();
    }

    /// <summary>The output without an adapter.</summary>
    /// <param name="input">[..., in].</param>
    /// <param name="bias">What is added, [out], or null.</param>
    internal Tensor Plain(Tensor input, Tensor? bias)
    {
        if (_weightSlot.Current is { } weight)
        {
            return nn.functional.linear(input, weight, bias);
        }

        using var scope = NewDisposeScope();
        var product = QuantizedProduct.Run(input, Quantized!);
        return (bias is null ? product : product.Plus(bias)).MoveToOuterDisposeScope();
    }

    /// <summary>Rows of the weight that is computed with, [count, in], as float32 numbers of their own or a view.</summary>
    /// <param name="start">The first row.</param>
    /// <param name="count">The number of rows.</param>
    public Tensor DenseRows(long start, long count)
    {
        using var scope = NewDisposeScope();
        var rows = _weightSlot.Current is { } weight ? weight.detach().narrow(0, start, count).to(float32) : Quantized!.Rows(start, count, float32);
        return rows.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Quantized?.Dispose();
        }

        base.Dispose(disposing);
    }
}
