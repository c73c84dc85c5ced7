using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>Feed-forward block without a gate: down(act(up(x))).</summary>
internal sealed class PlainFeedForward : LayerPart
{
    // Registered under the checkpoint's names, which differ among families, so they are not fields registered by field name.
    private readonly (LinearLayer Up, LinearLayer Down, Xielu? Learned) _parts;

    /// <summary>Creates a feed-forward block.</summary>
    /// <param name="settings">Settings of the block.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public PlainFeedForward(PlainFeedForwardSettings settings, IWeightSource weights, string name)
        : base(nameof(PlainFeedForward))
    {
        ArgumentNullException.ThrowIfNull(settings);
        Settings = settings;
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        LinearLayer Add(string layer, Dimension output, Dimension input) => this.Register(layer, LinearLayer.Take(weights, $"{name}.{layer}", output, input, settings.HasBias));
        _parts = (
            Add(settings.UpName, settings.Inner, hidden), Add(settings.DownName, hidden, settings.Inner),
            settings.LearnsActivation ? this.Register("act_fn", new Xielu(weights, $"{name}.act_fn")) : null);
    }

    /// <summary>Settings of the block.</summary>
    internal PlainFeedForwardSettings Settings { get; }

    /// <summary>The up projection.</summary>
    internal LinearLayer Up => _parts.Up;

    /// <summary>The down projection.</summary>
    internal LinearLayer Down => _parts.Down;

    // The output of the up projection; its activation is recomputed.
    internal override KeptElements Kept => new(
        new(Settings.Inner.Size),
        [new KeptInput([Up], Settings.HiddenSize, IsMadeAgain: true), new KeptInput([Down], Settings.Inner.Size, IsMadeAgain: true)],
        [TokenMemory.OfLinear(Settings.Inner.Size, Settings.HiddenSize)]);

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var inner = LinearLayer.Outputs(states, norm, Up)[0];
        var output = ProjectionGroup.Serves(Down)
            ? ProjectionGroup.Run(Input(inner), wantsValues: !context.OnlyForGradients, Down)[0]
            : Down.call(_parts.Learned is { } learned ? learned.call(inner) : Settings.Activation.Apply(inner));
        return output.MoveToOuterDisposeScope();
    }

    private ComputedInput Input(Tensor inner) => _parts.Learned is { } learned
        ? new ComputedInput(sources => learned.Of(sources[0], sources[1], sources[2]), inner, learned.Positive, learned.Negative)
        : new ComputedInput(sources => Settings.Activation.Apply(sources[0]), inner);
}

/// <summary>Settings of a feed-forward block without a gate.</summary>
internal sealed record PlainFeedForwardSettings : FeedForwardSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "mlp";

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width of the hidden layer.</summary>
    public required Dimension Inner { get; init; }

    /// <summary>Activation function.</summary>
    public required Activation Activation { get; init; }

    /// <summary>Whether the activation is xIELU with learned parameters, and not <see cref="Activation"/> (Apertus).</summary>
    public bool LearnsActivation { get; init; }

    /// <summary>Whether the projections have a bias.</summary>
    public bool HasBias { get; init; }

    /// <summary>Name of the projection to the hidden layer.</summary>
    public string UpName { get; init; } = "up_proj";

    /// <summary>Name of the projection back.</summary>
    public string DownName { get; init; } = "down_proj";

    internal override LayerPart Make(IWeightSource weights, string name) => new PlainFeedForward(this, weights, name);
}
