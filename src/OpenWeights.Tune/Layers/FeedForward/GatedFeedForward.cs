using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>The gated feed-forward of a layer: down(act(gate(x)) · up(x)) (Shazeer, 2020).</summary>
public sealed class GatedFeedForward : LayerPart
{
    // Registered by the checkpoint's names, which differ among families, so not fields that would be registered by their own.
    private readonly LinearLayer[] _gateAndUp;
    private readonly LinearLayer[] _down;

    /// <summary>A feed-forward.</summary>
    /// <param name="settings">How it is made and computes.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The module's name in the checkpoint.</param>
    public GatedFeedForward(GatedFeedForwardSettings settings, IWeightSource weights, string name)
        : base(nameof(GatedFeedForward))
    {
        ArgumentNullException.ThrowIfNull(settings);
        Settings = settings;
        var (hidden, inner, names) = (new Dimension("hidden_size", settings.HiddenSize), settings.Inner, settings.Names);
        _gateAndUp = settings.FusedProjections
            ? [Layer("gate_up_proj", new Dimension($"2 x {inner.Setting}", 2 * inner.Size), hidden)]
            : [Layer(names.Gate, inner, hidden), Layer(names.Up, inner, hidden)];
        _down = [Layer(names.Down, hidden, inner)];

        LinearLayer Layer(string layer, Dimension output, Dimension input)
        {
            var taken = LinearLayer.Take(weights, $"{name}.{layer}", output, input, settings.HasBias);
            register_module(layer, taken);
            return taken;
        }
    }

    /// <summary>How it is made and computes.</summary>
    internal GatedFeedForwardSettings Settings { get; }

    // Gate and up, of which their product is made again.
    internal override KeptElements Kept => new(
        2 * Settings.Inner.Size, [new KeptInput(_gateAndUp, Settings.HiddenSize, IsMadeAgain: true), new KeptInput(_down, Settings.Inner.Size, IsMadeAgain: true)]);

    /// <summary>The projections to gate and up: two, or one where they are fused.</summary>
    internal LinearLayer[] GateAndUp => _gateAndUp;

    /// <summary>The projection down, alone in its array.</summary>
    internal LinearLayer[] Down => _down;

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context) => Run(states, norm, wantsValues: !context.OnlyForGradients);

    /// <summary>The feed-forward of states.</summary>
    /// <param name="states">[..., hidden].</param>
    /// <param name="norm">What normalises them first, or null.</param>
    /// <param name="wantsValues">Whether the output's values are wanted, or its graph alone; they may be zeros then.</param>
    internal Tensor Run(Tensor states, Norm? norm, bool wantsValues)
    {
        using var scope = NewDisposeScope();
        var parts = LinearLayer.Outputs(states, norm, _gateAndUp);
        if (parts.Count == 1)
        {
            parts = [.. parts[0].chunk(2, -1)];
        }

        var output = ProjectionGroup.Serves(_down[0])
            ? ProjectionGroup.Run(new GatedInput(parts[0], parts[1], Settings.Activation), wantsValues, _down)[0]
            : _down[0].call(GatedActivation.Of(parts[0], parts[1], Settings.Activation));
        return output.MoveToOuterDisposeScope();
    }
}

/// <summary>How a gated feed-forward is made and computes.</summary>
public sealed record GatedFeedForwardSettings : FeedForwardSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "mlp";

    /// <summary>Width of the states that it reads and gives.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width of the inner layer.</summary>
    public required Dimension Inner { get; init; }

    /// <summary>The gate's activation.</summary>
    public required Activation Activation { get; init; }

    /// <summary>Whether gate and up are one projection, gate_up_proj.</summary>
    public bool FusedProjections { get; init; }

    /// <summary>Whether the projections have a bias.</summary>
    public bool HasBias { get; init; }

    /// <summary>What the checkpoint calls the layers.</summary>
    public FeedForwardNames Names { get; init; } = FeedForwardNames.Usual;

    internal override LayerPart Make(IWeightSource weights, string name) => new GatedFeedForward(this, weights, name);
}

/// <summary>What a checkpoint calls the layers of a feed-forward.</summary>
/// <param name="Gate">The layer whose output goes through the activation.</param>
/// <param name="Up">The layer that it is multiplied with.</param>
/// <param name="Down">The layer back to the residual stream.</param>
public sealed record FeedForwardNames(string Gate, string Up, string Down)
{
    /// <summary>The names of Llama and most others.</summary>
    public static FeedForwardNames Usual { get; } = new("gate_proj", "up_proj", "down_proj");
}
