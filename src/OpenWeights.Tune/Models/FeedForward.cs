using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models.Projections;
using OpenWeights.Tune.Models.Steps;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>The gated feed-forward of a layer: down(act(gate(x)) · up(x)) (Shazeer, 2020).</summary>
public sealed class FeedForward : nn.Module<Tensor, Tensor>
{
    // Registered by the checkpoint's names, which differ among families, so not fields that would be registered by their own.
    private readonly LinearLayer[] _gateAndUp;
    private readonly LinearLayer[] _down;
    private readonly Activation _activation;

    /// <summary>A feed-forward.</summary>
    /// <param name="config">The decoder's settings.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The module's name in the checkpoint.</param>
    /// <param name="inner">Width of the inner layer.</param>
    /// <param name="names">What the checkpoint calls the layers.</param>
    public FeedForward(DecoderConfig config, IWeightSource weights, string name, Dimension inner, FeedForwardNames names)
        : base(nameof(FeedForward))
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(names);
        var hidden = new Dimension("hidden_size", config.HiddenSize);
        _activation = config.Activation;
        _gateAndUp = config.FusedProjections
            ? [Layer("gate_up_proj", new Dimension($"2 x {inner.Setting}", 2 * inner.Size), hidden)]
            : [Layer(names.Gate, inner, hidden), Layer(names.Up, inner, hidden)];
        _down = [Layer(names.Down, hidden, inner)];

        LinearLayer Layer(string layer, Dimension output, Dimension input)
        {
            var taken = LinearLayer.Take(weights, $"{name}.{layer}", output, input, config.FeedForwardBias);
            register_module(layer, taken);
            return taken;
        }
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input) => Run(input, null, wantsValues: true);

    /// <summary>Its part in a step of a few rows; null where a layer of it, or the activation, is computed otherwise.</summary>
    /// <param name="rows">How many rows.</param>
    /// <param name="dtype">The model's dtype.</param>
    internal (StepProducts GateAndUp, StepProducts Down)? Step(int rows, ScalarType dtype) =>
        GateKernel.Serves(_activation) && StepProducts.Of(rows, dtype, _gateAndUp) is { } inner && StepProducts.Of(rows, dtype, _down) is { } down ? (inner, down) : null;

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
