using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Random weights for training from scratch, generated on the CPU, so that a seed gives the same model everywhere.</summary>
internal sealed class RandomWeightSource : IWeightSource, IDisposable
{
    // The logarithm of zero is none.
    private const double SlowestDecay = 0.01;
    private const double FastestDecay = 16;

    private readonly Generator _generator;
    private readonly double _range;
    private readonly ScalarType _dtype;
    private readonly Device _device;

    /// <summary>Creates a source of random weights.</summary>
    /// <param name="seed">Random seed.</param>
    /// <param name="initializerRange">Standard deviation of normal weights.</param>
    /// <param name="dtype">Data type of the weights.</param>
    /// <param name="device">The device.</param>
    public RandomWeightSource(long seed, double initializerRange, ScalarType dtype, Device device)
    {
        _generator = new Generator((ulong)seed);
        _range = initializerRange;
        _dtype = dtype;
        _device = device;
    }

    /// <summary>Quantization of the linear layers other than the head; null for none.</summary>
    internal QuantizationSettings? Quantization { get; init; }

    /// <summary>Name of the head's weight.</summary>
    internal string? Head { get; init; }

    /// <inheritdoc/>
    public QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input)
    {
        if (Quantization is null || name == Head)
        {
            return null;
        }

        using var weight = Take(name, InitialWeight.Normal, output, input);
        return Quantization.Quantize(weight);
    }

    /// <inheritdoc/>
    public IReadOnlyList<QuantizedWeight>? TakeQuantizedStack(string name, Dimension count, Dimension output, Dimension input, bool isTransposed) =>
        Quantization is null ? null : [.. Enumerable.Range(0, (int)count.Size).Select(_ => TakeQuantized(name, output, input)!)];

    /// <inheritdoc/>
    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
    {
        using var scope = NewDisposeScope();
        var sizes = new long[shape.Length];
        for (var i = 0; i < sizes.Length; i++)
        {
            sizes[i] = shape[i].Size;
        }

        var weight = empty(sizes, float32);
        weight = initial switch
        {
            InitialWeight.Normal => weight.normal_(0, _range, _generator),
            InitialWeight.DrawnDecayRates => weight.uniform_(SlowestDecay, FastestDecay, _generator).log_(),
            InitialWeight.Ones => weight.fill_(Scalars.One),
            InitialWeight.Convolution => weight.uniform_(-1 / Math.Sqrt(sizes[^1]), 1 / Math.Sqrt(sizes[^1]), _generator),
            InitialWeight.DecayRates => weight.copy_(arange(1, sizes[^1] + 1, float32).log_()),
            InitialWeight.TimeSteps => OfTimeSteps(weight.uniform_(Math.Log(0.001), Math.Log(0.1), _generator).exp_()),
            InitialWeight.XieluPositive => Filled(weight, Math.Log(Math.Exp(0.8) - 1)),
            InitialWeight.XieluNegative => Filled(weight, Math.Log(Math.Exp(0.3) - 1)),
            InitialWeight.XieluSlope => Filled(weight, 0.5),
            InitialWeight.XieluExponent => Filled(weight, -1e-6),
            _ => weight.zero_(),
        };
        var parameter = new Parameter(weight.to(_dtype, _device), requires_grad: false);
        _ = parameter.DetachFromDisposeScope();
        return parameter;
    }

    private static Tensor Filled(Tensor weight, double value)
    {
        using Scalar scalar = value;
        return weight.fill_(scalar);
    }

    /// <inheritdoc/>
    public void Dispose() => _generator.Dispose();

    // The inverse of softplus.
    private static Tensor OfTimeSteps(Tensor steps) => steps.neg().expm1_().neg_().log_().PlusInPlace(steps);
}
