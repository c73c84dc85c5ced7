using OpenWeights.Tune.Layers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A decoder layer: a token mixer and a feed-forward block (at least one of them), each with its norms, added to the residual stream.</summary>
public sealed class DecoderLayer : nn.Module<Tensor, LayerContext, Tensor>
{
    private readonly LayerBlock<TokenMixer>? _mixer;
    private readonly LayerBlock<LayerPart>? _feedForward;
    private readonly LayerSettings _settings;
    private readonly Scalar _residual;

    /// <summary>Creates a decoder layer.</summary>
    /// <param name="settings">Settings of the layer.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the layer in the checkpoint, such as model.layers.0.</param>
    public DecoderLayer(LayerSettings settings, IWeightSource weights, string name)
        : base(nameof(DecoderLayer))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        _settings = settings;
        _residual = settings.ResidualMultiplier;

        // Modules are registered under the checkpoint's names, which differ among families, so they are not fields registered by field name.
        Norm? AddNorm(string? norm) => norm is null ? null : this.Register(norm, settings.Norm.Take(weights, $"{name}.{norm}", hidden));
        if (settings.Mixer is { } mixer)
        {
            var before = AddNorm(settings.Norms.BeforeMixer);
            var part = this.Register(mixer.ModuleName, mixer.Make(weights, ModuleNames.Within(name, mixer.ModuleName)));
            _mixer = new LayerBlock<TokenMixer>(before, part, AddNorm(settings.Norms.AfterMixer));
        }

        if (settings.FeedForward is { } feedForward)
        {
            var isShared = _mixer is not null && settings.Norms.BeforeFeedForward == settings.Norms.BeforeMixer;
            var (before, after) = (isShared ? _mixer!.Before : AddNorm(settings.Norms.BeforeFeedForward), AddNorm(settings.Norms.AfterFeedForward));
            _feedForward = new LayerBlock<LayerPart>(before, this.Register(feedForward.ModuleName, feedForward.Make(weights, ModuleNames.Within(name, feedForward.ModuleName))), after);
        }
    }

    /// <summary>The token mixer with its norms; null if the layer has none.</summary>
    internal LayerBlock<TokenMixer>? Mixer => _mixer;

    /// <summary>The feed-forward block with its norms; null if the layer has none.</summary>
    internal LayerBlock<LayerPart>? FeedForward => _feedForward;

    /// <summary>Inputs that the layer needs in a forward pass.</summary>
    internal MixerNeeds Needs => _settings.Mixer?.Needs ?? MixerNeeds.Nothing;

    /// <summary>Settings of the layer.</summary>
    internal LayerSettings Settings => _settings;

    /// <summary>Computes the layer: [batch, tokens, hidden] to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, LayerContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        using var scope = NewDisposeScope();
        if (_settings.IsParallel && _mixer is { Before: { } shared } && _feedForward is not null && ReferenceEquals(shared, _feedForward.Before))
        {
            var normed = shared.call(input1);
            var mixed = input1.add(_mixer.RunNormed(normed, input2.ForValues), _residual);
            return mixed.add(_feedForward.RunNormed(normed, input2), _residual).MoveToOuterDisposeScope();
        }

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

/// <summary>A part of a layer with its norms.</summary>
/// <param name="Before">Norm of the input; null for none.</param>
/// <param name="Part">The part.</param>
/// <param name="After">Norm of the output; null for none.</param>
internal sealed record LayerBlock<TPart>(Norm? Before, TPart Part, Norm? After)
    where TPart : LayerPart
{
    /// <summary>The value to add to the residual stream.</summary>
    internal Tensor Run(Tensor states, LayerContext context) =>
        After is null ? Part.Run(states, Before, context) : After.call(Part.Run(states, Before, context.ForValues));

    /// <summary>The same of states that are normalised already.</summary>
    internal Tensor RunNormed(Tensor states, LayerContext context) => (this with { Before = null }).Run(states, context);
}
