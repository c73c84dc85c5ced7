using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// The mixer of Mamba (Gu and Dao, 2023): a projection, a short convolution, a recurrence over the text whose time steps, B and C are projections
/// of the convolution's output, normalised as in Jamba, a gate, and a projection back.
/// </summary>
internal sealed class MambaMixer : TokenMixer
{
    private static readonly SelectiveScan s_scan = new();

    [ComponentName(Name = "in_proj")]
    private readonly LinearLayer _input;

    [ComponentName(Name = "conv1d")]
    private readonly ShortConvolution _convolution;

    [ComponentName(Name = "x_proj")]
    private readonly LinearLayer _selection;

    [ComponentName(Name = "dt_proj")]
    private readonly LinearLayer _step;

    [ComponentName(Name = "dt_layernorm")]
    private readonly Norm _stepNorm;

    [ComponentName(Name = "b_layernorm")]
    private readonly Norm _inputNorm;

    [ComponentName(Name = "c_layernorm")]
    private readonly Norm _outputNorm;

    [ComponentName(Name = "out_proj")]
    private readonly LinearLayer _output;

    [ComponentName(Name = "A_log")]
    private readonly Parameter _decay;

    [ComponentName(Name = "D")]
    private readonly Parameter _skip;

    private readonly MambaSettings _settings;

    /// <summary>Creates the mixer of a layer.</summary>
    /// <param name="settings">Settings of the mixer.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public MambaMixer(MambaSettings settings, IWeightSource weights, string name)
        : base(nameof(MambaMixer))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        _settings = settings;
        var (hidden, inner, rank, state) = (new Dimension("hidden_size", settings.HiddenSize), settings.Inner, settings.StepRank, settings.StateSize);
        _input = LinearLayer.Take(weights, $"{name}.in_proj", new Dimension($"2 x {inner.Setting}", 2 * inner.Size), hidden, settings.ProjectionBias);
        _convolution = ShortConvolution.Take(weights, $"{name}.conv1d", inner, settings.Kernel, settings.ConvolutionBias, activates: true);
        _selection = LinearLayer.Take(weights, $"{name}.x_proj", new Dimension($"{rank.Setting} + 2 x {state.Setting}", rank.Size + (2 * state.Size)), inner, hasBias: false);
        _step = LinearLayer.Take(weights, $"{name}.dt_proj", inner, rank, hasBias: true, InitialWeight.TimeSteps);

        // transformers computes with its weight alone, so that an adapter would do nothing there.
        _step.TakesAdapters = false;
        _stepNorm = settings.Norm.Take(weights, $"{name}.dt_layernorm", rank);
        _inputNorm = settings.Norm.Take(weights, $"{name}.b_layernorm", state);
        _outputNorm = settings.Norm.Take(weights, $"{name}.c_layernorm", state);
        _output = LinearLayer.Take(weights, $"{name}.out_proj", hidden, inner, settings.ProjectionBias);
        _decay = weights.Take($"{name}.A_log", InitialWeight.DecayRates, inner, state);
        _skip = weights.Take($"{name}.D", InitialWeight.Ones, inner);
        RegisterComponents();
    }

    // What the projection gives, of which the convolution reads one half; what that gives; the selection, before and after its norms; and the
    // time steps.
    internal override KeptElements Kept
    {
        get
        {
            var (inner, selected) = (_settings.Inner.Size, _settings.StepRank.Size + (2 * _settings.StateSize.Size));
            return new KeptElements(
                new((4 * inner) + (2 * selected)),
                [new KeptInput([_input], _settings.HiddenSize, IsMadeAgain: true), new KeptInput([_output], inner, IsMadeAgain: false)],
                [new TokenMemory(4 * inner, Floats: 10 * inner, Widened: 3 * inner)]);
        }
    }

    internal override LayerState NewState() => new MambaState(_convolution.Kernel - 1);

    internal override long StateBytes(CachedTexts texts, long size) => texts.Rows * ((_convolution.StateElements * size) + (sizeof(float) * _settings.Inner.Size * _settings.StateSize.Size));

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var parts = LinearLayer.Outputs(states, norm, _input)[0].chunk(2, -1);
        var x = context.ByText([parts[0]], 1, (given, own) => _convolution.Run(given[0], own.Documents, (own.State as MambaState)?.Convolution));
        var selected = _selection.call(x).split([_settings.StepRank.Size, _settings.StateSize.Size, _settings.StateSize.Size], -1);
        var step = _step.call(_stepNorm.call(selected[0]));
        Tensor[] inputs = [parts[1], x, step, _inputNorm.call(selected[1]), _outputNorm.call(selected[2])];
        var output = context.ByText(inputs, 1, (given, own) => s_scan.Run(given, [_decay, _skip], own.Documents, (own.State as MambaState)?.Scan));
        return _output.call(output).MoveToOuterDisposeScope();
    }
}

/// <summary>Settings of a Mamba mixer.</summary>
internal sealed record MambaSettings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "mamba";

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of channels.</summary>
    public required Dimension Inner { get; init; }

    /// <summary>Size of the state for each channel.</summary>
    public required Dimension StateSize { get; init; }

    /// <summary>Rank of the time steps: width of the input of their projection.</summary>
    public required Dimension StepRank { get; init; }

    /// <summary>Kernel size of the convolution.</summary>
    public required Dimension Kernel { get; init; }

    /// <summary>Whether the convolution has a bias.</summary>
    public bool ConvolutionBias { get; init; } = true;

    /// <summary>Whether input and output projections have a bias.</summary>
    public bool ProjectionBias { get; init; }

    /// <summary>Norms of the input of the time steps' projection, of B and of C.</summary>
    public required NormSettings Norm { get; init; }

    internal override MixerNeeds Needs => new() { Restarts = true };

    internal override TokenMixer Make(IWeightSource weights, string name) => new MambaMixer(this, weights, name);
}
