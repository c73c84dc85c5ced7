using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>The gated feed-forward of a layer: down(act(gate(x)) · up(x)) (Shazeer, 2020).</summary>
public sealed class GatedFeedForward : nn.Module<Tensor, Tensor>
{
    // Registered by the checkpoint's names, which differ among families, so not fields that would be registered by their own.
    private readonly LinearLayer[] _gateAndUp;
    private readonly LinearLayer[] _down;
    private readonly Activation _activation;

    /// <summary>A feed-forward.</summary>
    /// <param name="settings">How it is made and computes.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The module's name in the checkpoint.</param>
    /// <param name="inner">Width of the inner layer.</param>
    /// <param name="names">What the checkpoint calls the layers.</param>
    public GatedFeedForward(FeedForwardSettings settings, IWeightSource weights, string name, Dimension inner, FeedForwardNames names)
        : base(nameof(GatedFeedForward))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(names);
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        _activation = settings.Activation;
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

    /// <summary>The projections to gate and up: two, or one where they are fused.</summary>
    internal LinearLayer[] GateAndUp => _gateAndUp;

    /// <summary>The projection down, alone in its array.</summary>
    internal LinearLayer[] Down => _down;

    /// <inheritdoc/>
    public override Tensor forward(Tensor input) => Run(input, null, wantsValues: true);

    /// <summary>The feed-forward of states.</summary>
    /// <param name="states">[..., hidden].</param>
    /// <param name="norm">What normalises them first, or null.</param>
    /// <param name="wantsValues">Whether the output's values are wanted, or its graph alone; they may be zeros then.</param>
    internal Tensor Run(Tensor states, RmsNorm? norm, bool wantsValues)
    {
        using var scope = NewDisposeScope();
        var parts = LinearLayer.Outputs(states, norm, _gateAndUp);
        if (parts.Count == 1)
        {
            parts = [.. parts[0].chunk(2, -1)];
        }

        var output = ProjectionGroup.Serves(_down[0])
            ? ProjectionGroup.Run(new GatedInput(parts[0], parts[1], _activation), wantsValues, _down)[0]
            : _down[0].call(GatedActivation.Of(parts[0], parts[1], _activation));
        return output.MoveToOuterDisposeScope();
    }
}

/// <summary>How feed-forwards are made and compute.</summary>
/// <param name="HiddenSize">Width of the states that they read and give.</param>
/// <param name="Activation">The gate's activation.</param>
/// <param name="FusedProjections">Whether gate and up are one projection, gate_up_proj.</param>
/// <param name="HasBias">Whether the projections have a bias.</param>
public sealed record FeedForwardSettings(int HiddenSize, Activation Activation, bool FusedProjections, bool HasBias);

/// <summary>What a checkpoint calls the layers of a feed-forward.</summary>
/// <param name="Gate">The layer whose output goes through the activation.</param>
/// <param name="Up">The layer that it is multiplied with.</param>
/// <param name="Down">The layer back to the residual stream.</param>
public sealed record FeedForwardNames(string Gate, string Up, string Down)
{
    /// <summary>The names of Llama and most others.</summary>
    public static FeedForwardNames Usual { get; } = new("gate_proj", "up_proj", "down_proj");
}
