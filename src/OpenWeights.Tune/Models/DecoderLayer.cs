using OpenWeights.Tune.Layers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A layer: a token mixer and a feed-forward, each with its norms, added to the residual stream. It has one of the two at least.</summary>
public sealed class DecoderLayer : nn.Module<Tensor, LayerContext, Tensor>
{
    private readonly LayerBlock<TokenMixer>? _mixer;
    private readonly LayerBlock<LayerPart>? _feedForward;
    private readonly LayerSettings _settings;
    private readonly Scalar _residual;

    /// <summary>A layer of the decoder.</summary>
    /// <param name="settings">What it is made of.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The layer's name in the checkpoint, such as model.layers.0.</param>
    public DecoderLayer(LayerSettings settings, IWeightSource weights, string name)
        : base(nameof(DecoderLayer))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        _settings = settings;
        _residual = settings.ResidualMultiplier;

        // Modules have the checkpoint's names, which differ among families, so they are no fields that would be registered by names of their own.
        T Add<T>(string module, T made)
            where T : nn.Module
        {
            register_module(module, made);
            return made;
        }

        Norm? AddNorm(string? norm) => norm is null ? null : Add(norm, settings.Norm.Take(weights, $"{name}.{norm}", hidden));
        if (settings.Mixer is { } mixer)
        {
            var before = AddNorm(settings.Norms.BeforeMixer);
            var part = Add(mixer.ModuleName, mixer.Make(weights, $"{name}.{mixer.ModuleName}"));
            _mixer = new LayerBlock<TokenMixer>(before, part, AddNorm(settings.Norms.AfterMixer));
        }

        if (settings.FeedForward is { } feedForward)
        {
            var (before, after) = (AddNorm(settings.Norms.BeforeFeedForward), AddNorm(settings.Norms.AfterFeedForward));
            _feedForward = new LayerBlock<LayerPart>(before, Add(feedForward.ModuleName, feedForward.Make(weights, $"{name}.{feedForward.ModuleName}")), after);
        }
    }

    /// <summary>The token mixer with its norms; null where the layer has none.</summary>
    internal LayerBlock<TokenMixer>? Mixer => _mixer;

    /// <summary>The feed-forward with its norms; null where the layer has none.</summary>
    internal LayerBlock<LayerPart>? FeedForward => _feedForward;

    /// <summary>What it needs of a forward pass.</summary>
    internal MixerNeeds Needs => _settings.Mixer?.Needs ?? MixerNeeds.Nothing;

    /// <summary>What it is made of.</summary>
    internal LayerSettings Settings => _settings;

    /// <summary>[batch, tokens, hidden] to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, LayerContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        using var scope = NewDisposeScope();
        var states = input1;
        if (_mixer is not null)
        {
            states = states.add(_mixer.Run(input1, _feedForward is null ? input2 : input2.ForValues), _residual);
        }

        if (_feedForward is not null)
        {
            states = states.add(_feedForward.Run(_settings.IsParallel ? input1 : states, input2), _residual);
        }

        return states.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _residual.Dispose();
        }

        base.Dispose(disposing);
    }
}

/// <summary>A part of a layer between its norms.</summary>
/// <param name="Before">What normalises the states that the part reads; null where nothing does.</param>
/// <param name="Part">The part.</param>
/// <param name="After">What normalises its output; null where nothing does.</param>
internal sealed record LayerBlock<TPart>(Norm? Before, TPart Part, Norm? After)
    where TPart : LayerPart
{
    /// <summary>What is added to the residual stream.</summary>
    internal Tensor Run(Tensor states, LayerContext context) =>
        After is null ? Part.Run(states, Before, context) : After.call(Part.Run(states, Before, context.ForValues));
}
