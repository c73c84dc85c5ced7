using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>A short convolution between two gates (LFM2; Liquid AI, 2025): out(c · conv(b · x)), with b, c and x one projection.</summary>
internal sealed class ConvolutionMixer : TokenMixer
{
    private readonly ConvolutionMixerSettings _settings;
    private readonly LinearLayer[] _input;
    private readonly (ShortConvolution Convolution, LinearLayer Output) _parts;

    /// <summary>Creates the mixer of a layer.</summary>
    /// <param name="settings">Settings of the mixer.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public ConvolutionMixer(ConvolutionMixerSettings settings, IWeightSource weights, string name)
        : base(nameof(ConvolutionMixer))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _settings = settings;
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        var convolution = this.Register("conv", ShortConvolution.Take(weights, $"{name}.conv", hidden, settings.Kernel, settings.HasBias, activates: false));
        _input = [this.Register("in_proj", LinearLayer.Take(weights, $"{name}.in_proj", new Dimension("3 x hidden_size", 3 * hidden.Size), hidden, settings.HasBias))];
        _parts = (convolution, this.Register("out_proj", LinearLayer.Take(weights, $"{name}.out_proj", hidden, hidden, settings.HasBias)));
    }

    // The projection, what is convolved, what that gives, and the output projection's input.
    internal override KeptElements Kept
    {
        get
        {
            var hidden = (long)_settings.HiddenSize;
            return new KeptElements(
                new(5 * hidden), [new KeptInput([_parts.Output], hidden, IsMadeAgain: false), new KeptInput(_input, hidden, IsMadeAgain: true)], [TokenMemory.OfLinear(hidden, hidden)]);
        }
    }

    internal override LayerState NewState() => new ConvolutionState(_parts.Convolution.Kernel - 1);

    internal override long StateBytes(CachedTexts texts, long size) => texts.Rows * _parts.Convolution.StateElements * size;

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var parts = LinearLayer.Outputs(states, norm, _input)[0].chunk(3, -1);
        var mixed = context.ByText([parts[0].mul(parts[2])], 1, (given, own) => _parts.Convolution.Run(given[0], own.Documents, own.State as ConvolutionState));
        return _parts.Output.call(parts[1].mul(mixed)).MoveToOuterDisposeScope();
    }
}

/// <summary>Settings of a short convolution between two gates.</summary>
internal sealed record ConvolutionMixerSettings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "conv";

    /// <summary>Hidden size: width of its input and output, and number of channels.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Kernel size of the convolution.</summary>
    public required Dimension Kernel { get; init; }

    /// <summary>Whether the convolution and the projections have a bias.</summary>
    public bool HasBias { get; init; }

    internal override MixerNeeds Needs => new() { Restarts = true };

    internal override TokenMixer Make(IWeightSource weights, string name) => new ConvolutionMixer(this, weights, name);
}
