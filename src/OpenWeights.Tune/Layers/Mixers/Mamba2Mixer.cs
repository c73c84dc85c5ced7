using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>The mixer of Mamba-2 (Dao and Gu, 2024): a projection, a short convolution, a recurrence over the text, a gate, a norm, and a projection back.</summary>
internal sealed class Mamba2Mixer : TokenMixer
{
    [ComponentName(Name = "in_proj")]
    private readonly LinearLayer _input;

    [ComponentName(Name = "conv1d")]
    private readonly ShortConvolution _convolution;

    [ComponentName(Name = "norm")]
    private readonly RmsNorm? _norm;

    [ComponentName(Name = "out_proj")]
    private readonly LinearLayer _output;

    [ComponentName(Name = "A_log")]
    private readonly Parameter _decay;

    [ComponentName(Name = "D")]
    private readonly Parameter _skip;

    [ComponentName(Name = "dt_bias")]
    private readonly Parameter _stepBias;

    private readonly Mamba2Settings _settings;
    private readonly Mamba2Scan _scan;
    private readonly Scalar? _multiplier;
    private readonly long[] _widths;

    /// <summary>Creates the mixer of a layer.</summary>
    /// <param name="settings">Settings of the mixer.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public Mamba2Mixer(Mamba2Settings settings, IWeightSource weights, string name)
        : base(nameof(Mamba2Mixer))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        _settings = settings;
        _scan = new Mamba2Scan(settings);
        _multiplier = settings.InputMultiplier == 1 ? null : (Scalar)settings.InputMultiplier;
        var convolved = settings.Inner + (2 * settings.Groups * settings.StateSize.Size);
        _widths = [settings.Inner, convolved, settings.Heads];
        var (hidden, inner, heads) = (new Dimension("hidden_size", settings.HiddenSize), new Dimension("heads x head dimension of Mamba", settings.Inner), new Dimension("heads of Mamba", settings.Heads));
        _input = LinearLayer.Take(weights, $"{name}.in_proj", new Dimension("gate, x, B, C and time steps of Mamba", _widths.Sum()), hidden, settings.InputBias);
        _convolution = ShortConvolution.Take(weights, $"{name}.conv1d", new Dimension("x, B and C of Mamba", convolved), settings.Kernel, settings.ConvolutionBias, activates: true);
        _norm = settings.Norm is { } norm ? (RmsNorm)new RmsNormSettings(norm.Epsilon).Take(weights, $"{name}.norm", inner) : null;
        _output = LinearLayer.Take(weights, $"{name}.out_proj", hidden, inner, settings.OutputBias);
        _output.TakesAdapters = settings.AdaptsOutput;
        _decay = weights.Take($"{name}.A_log", InitialWeight.DecayRates, heads);
        _skip = weights.Take($"{name}.D", InitialWeight.Ones, heads);
        _stepBias = weights.Take($"{name}.dt_bias", InitialWeight.TimeSteps, heads);
        RegisterComponents();
    }

    // What the projection gives, of which the convolution reads a part; what that gives; the states before spans of tokens; and the output projection's input.
    internal override KeptElements Kept => new(
        new(_widths.Sum() + _widths[1] + (_settings.Multipliers.AreOne ? 0 : _widths.Sum())),
        [new KeptInput([_input], _settings.HiddenSize, IsMadeAgain: _multiplier is null), new KeptInput([_output], _settings.Inner, IsMadeAgain: false)],
        [TokenMemory.OfLinear(_settings.HiddenSize, 2 * _widths.Sum()) + _scan.Working],
        OfRows: _scan.KeptStates);

    internal override LayerState NewState() => new MambaState(_convolution.Kernel - 1);

    internal override long StateBytes(CachedTexts texts, long size) => texts.Rows * ((_convolution.StateElements * size) + (sizeof(float) * _settings.Inner * _settings.StateSize.Size));

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var parts = Projected(states, norm).split(_widths, -1);
        var output = context.ByText(parts, 1, (given, own) =>
        {
            var state = (MambaState?)own.State;
            var convolved = _convolution.Run(given[1], own.Documents, state?.Convolution);
            return _scan.Run([given[0], convolved, given[2]], [_decay, _stepBias, _skip, _norm?.Scale], own.Documents, state?.Scan);
        });
        return _output.call(output).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _scan.Dispose();
            _multiplier?.Dispose();
        }

        base.Dispose(disposing);
    }

    private Tensor Projected(Tensor states, Norm? norm)
    {
        using var scope = NewDisposeScope();
        var projected = _multiplier is null ? LinearLayer.Outputs(states, norm, _input)[0] : _input.call((norm?.call(states) ?? states).mul(_multiplier));
        if (!_settings.Multipliers.AreOne)
        {
            var (of, groups) = (_settings.Multipliers, _settings.Groups * _settings.StateSize.Size);
            (double Factor, long Count)[] parts = [(of.Gate, _settings.Inner), (of.X, _settings.Inner), (of.B, groups), (of.C, groups), (of.TimeStep, _settings.Heads)];
            float[] factors = [.. parts.SelectMany(static p => Enumerable.Repeat((float)p.Factor, (int)p.Count))];
            projected = projected.mul(tensor(factors, device: projected.device).to(projected.dtype));
        }

        return projected.MoveToOuterDisposeScope();
    }
}

/// <summary>State of a Mamba mixer: the last inputs of its convolution, and the state of its recurrence.</summary>
/// <param name="inputs">Number of inputs that the convolution keeps.</param>
internal sealed class MambaState(int inputs) : LayerState
{
    /// <inheritdoc/>
    public override long ByteLength => Convolution.ByteLength + Scan.ByteLength;

    /// <summary>The last inputs of the convolution.</summary>
    internal ConvolutionState Convolution { get; } = new(inputs);

    /// <summary>The state of the recurrence.</summary>
    internal ScanState Scan { get; } = new();

    // A recurrence cannot be run backwards.
    internal override bool CanTruncate(int length) => false;

    internal override void Truncate(int length) => throw new InvalidOperationException("the states after earlier tokens are not kept");

    internal override void Select(long[] rows)
    {
        Convolution.Select(rows);
        Scan.Select(rows);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        Convolution.Dispose();
        Scan.Dispose();
    }
}
