using OpenWeights.Tune.Adapters;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>y = x Wᵀ + b, and what an adapter adds to it.</summary>
public sealed class LinearLayer : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    [ComponentName(Name = "bias")]
    private readonly Parameter? _bias;

    /// <summary>A layer around weights that are already there.</summary>
    /// <param name="weight">[out, in].</param>
    /// <param name="bias">[out], or null.</param>
    public LinearLayer(Parameter weight, Parameter? bias)
        : base(nameof(LinearLayer))
    {
        ArgumentNullException.ThrowIfNull(weight);
        _weight = weight;
        _bias = bias;
        OutFeatures = weight.size(0);
        InFeatures = weight.size(-1);
        RegisterComponents();
    }

    /// <summary>Width of the output.</summary>
    public long OutFeatures { get; }

    /// <summary>Width of the input.</summary>
    public long InFeatures { get; }

    /// <summary>The weight, [out, in].</summary>
    public Parameter Weight => _weight;

    /// <summary>The bias, [out], or null.</summary>
    public Parameter? Bias => _bias;

    /// <summary>What is added to the layer's output; null where nothing is.</summary>
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
        var weight = weights.Take($"{name}.weight", InitialWeight.Normal, output, input);
        return new LinearLayer(weight, hasBias ? weights.Take($"{name}.bias", InitialWeight.Zeros, output) : null);
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        if (Adapter is null)
        {
            return nn.functional.linear(input, _weight, _bias);
        }

        using var scope = NewDisposeScope();
        return Adapter.Apply(this, input, nn.functional.linear(input, _weight, _bias)).MoveToOuterDisposeScope();
    }
}
