using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Streams;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A decoder layer: a token mixer and a feed-forward block (at least one of them), each with its norms, added to the residual stream.</summary>
internal sealed class DecoderLayer : nn.Module<Tensor, LayerContext, Tensor>
{
    private readonly LayerBlock<TokenMixer>? _mixer;
    private readonly LayerBlock<LayerPart>? _feedForward;
    private readonly LayerSettings _settings;
    private readonly Scalar _residual;
    private readonly Additions _more;

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
            _feedForward = new LayerBlock<LayerPart>(before, Add(feedForward), after);
        }

        _more = new Additions(
            settings.Streams is { } streams ? this.Register("altup", new AltUp(streams, weights, $"{name}.altup")) : null,
            settings.Laurel is { } laurel ? new LayerBlock<LayerPart>(_mixer?.Before, Add(laurel), null) : null,
            settings.PerLayerInput is { } own ? new LayerBlock<LayerPart>(null, Add(own), AddNorm("post_per_layer_input_norm")) : null,
            settings.OutputFactor is { } factor ? AddFactor(factor) : null);

        LayerPart Add(FeedForwardSettings part) => this.Register(part.ModuleName, part.Make(weights, ModuleNames.Within(name, part.ModuleName)));
        Tensor AddFactor(string buffer)
        {
            var taken = weights.Take($"{name}.{buffer}", InitialWeight.Ones, new Dimension("1", 1));
            return this.RegisterBuffer(buffer, taken);
        }
    }

    /// <summary>The token mixer with its norms; null if the layer has none.</summary>
    internal LayerBlock<TokenMixer>? Mixer => _mixer;

    /// <summary>The feed-forward block with its norms; null if the layer has none.</summary>
    internal LayerBlock<LayerPart>? FeedForward => _feedForward;

    /// <summary>All parts of the layer.</summary>
    internal IEnumerable<(LayerPart Part, Norm? After)> Parts() =>
        new[] { _mixer is null ? null : new LayerBlock<LayerPart>(_mixer.Before, _mixer.Part, _mixer.After), _feedForward, _more.Laurel, _more.PerLayerInput }
            .OfType<LayerBlock<LayerPart>>().Select(static b => (b.Part, b.After));

    /// <summary>Whether the layer has no parts but token mixer and feed-forward.</summary>
    internal bool HasTwoParts => _more.AreNone;

    /// <summary>What the layer keeps of a token for the residual streams besides its own, in elements.</summary>
    internal long KeptOfStreams => _more.Streams?.Kept ?? 0;

    /// <summary>Inputs that the layer needs in a forward pass.</summary>
    internal MixerNeeds Needs => _settings.Mixer?.Needs ?? MixerNeeds.Nothing;

    /// <summary>Settings of the layer.</summary>
    internal LayerSettings Settings => _settings;

    /// <summary>Computes the layer: [batch, tokens, hidden] to [batch, tokens, hidden], or the same with several residual streams, [streams, batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, LayerContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        using var adapted = AdaptedTokens.Use(input2.Adapted);
        using var scope = NewDisposeScope();
        if (_more.Streams is not { } streams)
        {
            return Behind(Blocks(input1, input2), input2).MoveToOuterDisposeScope();
        }

        var predictions = streams.Predict(input1);
        var corrected = streams.Correct(predictions, Blocks(streams.Active(predictions), input2));
        return (_more.PerLayerInput is { } own ? streams.AddToOthers(corrected, states => own.Run(states, input2)) : corrected).MoveToOuterDisposeScope();
    }

    // Whether something is computed from the output of token mixer and feed-forward.
    private bool NeedsValues => _more is not { Streams: null, PerLayerInput: null };

    // Token mixer and feed-forward.
    private Tensor Blocks(Tensor input, LayerContext context)
    {
        if (_settings.IsParallel && _mixer is { Before: { } shared } && _feedForward is not null && ReferenceEquals(shared, _feedForward.Before))
        {
            var normed = shared.call(input);
            var mixed = input.add(_mixer.RunNormed(normed, context.ForValues), _residual);
            return mixed.add(_feedForward.RunNormed(normed, NeedsValues ? context.ForValues : context), _residual);
        }

        var states = input;
        if (_mixer is not null)
        {
            states = states.add(_mixer.Run(input, _feedForward is null && !NeedsValues ? context : context.ForValues), _residual);
        }

        if (_more.Laurel is { } laurel)
        {
            using Scalar half = Math.Sqrt(0.5);
            states = states.Plus(laurel.Run(input, context)).mul(half);
        }

        if (_feedForward is not null)
        {
            states = states.add(_feedForward.Run(_settings.IsParallel ? input : states, NeedsValues ? context.ForValues : context), _residual);
        }

        return states;
    }

    // What follows them.
    private Tensor Behind(Tensor states, LayerContext context)
    {
        states = _more.PerLayerInput is { } own ? states.Plus(own.Run(states, context)) : states;
        return _more.Factor is { } factor ? states.mul(factor) : states;
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

    // What only some families' layers have.
    private sealed record Additions(AltUp? Streams, LayerBlock<LayerPart>? Laurel, LayerBlock<LayerPart>? PerLayerInput, Tensor? Factor)
    {
        internal bool AreNone => this is { Streams: null, Laurel: null, PerLayerInput: null, Factor: null };
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
