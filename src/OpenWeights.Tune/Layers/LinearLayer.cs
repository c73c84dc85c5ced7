using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Projections;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>A linear layer y = x Wᵀ + b with an optional adapter. W may be quantized.</summary>
internal sealed class LinearLayer : nn.Module<Tensor, Tensor>, IWeighted
{
    [ComponentName(Name = "weight")]
    private readonly Parameter? _weight;

    [ComponentName(Name = "bias")]
    private readonly Parameter? _bias;

    private readonly long _outFeatures;
    private readonly WeightSlot _weightSlot;
    private readonly WeightSlot? _biasSlot;

    /// <summary>Creates a layer from existing weights.</summary>
    /// <param name="weight">Weight, [out, in].</param>
    /// <param name="bias">Bias, [out], or null.</param>
    public LinearLayer(Parameter weight, Parameter? bias)
        : this(weight, null, bias, weight?.size(0) ?? 0, weight?.size(-1) ?? 0) => ArgumentNullException.ThrowIfNull(weight);

    /// <summary>Creates a layer from weights that may be placeholders of another shape.</summary>
    /// <param name="weight">Weight, [out, in].</param>
    /// <param name="bias">Bias, [out], or null.</param>
    /// <param name="outFeatures">Number of output features.</param>
    /// <param name="inFeatures">Number of input features.</param>
    internal LinearLayer(Parameter weight, Parameter? bias, long outFeatures, long inFeatures)
        : this(weight, null, bias, outFeatures, inFeatures)
    {
    }

    /// <summary>Creates a layer with a quantized weight, which it owns.</summary>
    /// <param name="weight">Weight, [out, in].</param>
    /// <param name="bias">Bias, [out], or null.</param>
    public LinearLayer(QuantizedWeight weight, Parameter? bias)
        : this(null, weight, bias, weight?.OutFeatures ?? 0, weight?.InFeatures ?? 0) => ArgumentNullException.ThrowIfNull(weight);

    private LinearLayer(Parameter? weight, QuantizedWeight? quantized, Parameter? bias, long outFeatures, long inFeatures)
        : base(nameof(LinearLayer))
    {
        _weight = weight;
        _bias = bias;
        Quantized = quantized;
        _outFeatures = outFeatures;
        InFeatures = inFeatures;
        _weightSlot = new WeightSlot("weight", _weight);
        _biasSlot = _bias is null ? null : new WeightSlot("bias", _bias);
        RegisterComponents();
    }

    /// <summary>Whether it is the router of a mixture of experts: all-linear does not adapt it.</summary>
    internal bool IsRouter { get; init; }

    /// <summary>Whether adapters may target the layer. PEFT refuses or ignores those on layers with whose weight alone transformers computes.</summary>
    public bool TakesAdapters { get; internal set; } = true;

    /// <summary>Number of output features; an adapter's weight may have more rows than the layer's own.</summary>
    public long OutFeatures => _weightSlot.Replacement?.size(0) ?? _outFeatures;

    /// <summary>Number of input features.</summary>
    public long InFeatures { get; }

    /// <summary>The weight in use, [out, in].</summary>
    /// <exception cref="InvalidOperationException">The weight is quantized; use <see cref="DenseRows"/> for its values.</exception>
    public Parameter Weight => _weightSlot.Current ?? throw new InvalidOperationException("the layer's weight is quantized; use DenseRows for its values");

    /// <summary>The quantized weight; null if the weight is not quantized.</summary>
    public QuantizedWeight? Quantized { get; }

    /// <summary>The bias in use, [out], or null.</summary>
    public Parameter? Bias => _biasSlot?.Current;

    /// <inheritdoc/>
    public IReadOnlyList<WeightSlot> Slots => _biasSlot is null ? [_weightSlot] : [_weightSlot, _biasSlot];

    /// <summary>The adapter on the layer; null for none.</summary>
    public ILinearAdapter? Adapter { get; set; }

    /// <summary>Creates a layer with the weights of a source.</summary>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the layer, without .weight.</param>
    /// <param name="output">Number of output features.</param>
    /// <param name="input">Number of input features.</param>
    /// <param name="hasBias">Whether there is a bias.</param>
    /// <param name="bias">Initialization of the bias.</param>
    public static LinearLayer Take(IWeightSource weights, string name, Dimension output, Dimension input, bool hasBias, InitialWeight bias = InitialWeight.Zeros)
    {
        ArgumentNullException.ThrowIfNull(weights);
        var quantized = weights.TakeQuantized($"{name}.weight", output, input);
        var weight = quantized is null ? weights.Take($"{name}.weight", InitialWeight.Normal, output, input) : null;
        return new LinearLayer(weight, quantized, hasBias ? weights.Take($"{name}.bias", bias, output) : null, output.Size, input.Size);
    }

    /// <summary>Applies several layers to the same states; each result is [..., out], in the caller's dispose scope.</summary>
    /// <param name="states">The states, [..., in].</param>
    /// <param name="norm">A norm applied to the states first, or null.</param>
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
        return (Adapter.Replace(this, input) ?? Adapter.Apply(this, input, Plain(input, Bias))).MoveToOuterDisposeScope();
    }

    /// <summary>The output without an adapter.</summary>
    /// <param name="input">The input, [..., in].</param>
    /// <param name="bias">The bias to add, [out], or null.</param>
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

    /// <summary>Rows of the weight in use, [count, in], in float32, as a copy or a view.</summary>
    /// <param name="start">First row.</param>
    /// <param name="count">Number of rows.</param>
    public Tensor DenseRows(long start, long count)
    {
        using var scope = NewDisposeScope();
        var rows = _weightSlot.Current is { } weight ? weight.detach().narrow(0, start, count).Widened() : Quantized!.Rows(start, count, float32);
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
