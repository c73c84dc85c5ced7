using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Projections;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>Gated feed-forward block: down(act(gate(x)) · up(x)) (Shazeer, 2020).</summary>
internal sealed class GatedFeedForward : LayerPart
{
    // Registered under the checkpoint's names, which differ among families, so they are not fields registered by field name.
    private readonly LinearLayer[] _gateAndUp;
    private readonly LinearLayer[] _down;
    private readonly (Scalar? Gate, Scalar? Output) _multipliers;

    /// <summary>Creates a feed-forward block.</summary>
    /// <param name="settings">Settings of the block.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public GatedFeedForward(GatedFeedForwardSettings settings, IWeightSource weights, string name)
        : base(nameof(GatedFeedForward))
    {
        ArgumentNullException.ThrowIfNull(settings);
        Settings = settings;
        var (hidden, inner, names) = (new Dimension("hidden_size", settings.HiddenSize), settings.Inner, settings.Names);
        _gateAndUp = settings.FusedProjections
            ? [Layer(names.Fused, new Dimension($"2 x {inner.Setting}", 2 * inner.Size), hidden)]
            : [Layer(names.Gate, inner, hidden), Layer(names.Up, inner, hidden)];
        _down = [Layer(names.Down, hidden, inner)];
        _multipliers = (Factor(settings.GateMultiplier), Factor(settings.OutputMultiplier));

        static Scalar? Factor(double factor) => factor == 1 ? null : (Scalar)factor;
        LinearLayer Layer(string layer, Dimension output, Dimension input)
        {
            var taken = LinearLayer.Take(weights, $"{name}.{layer}", output, input, settings.HasBias);
            register_module(layer, taken);
            return taken;
        }
    }

    /// <summary>Settings of the block.</summary>
    internal GatedFeedForwardSettings Settings { get; }

    // Gate and up; their product is recomputed. A sparse gate is kept before and after it is made sparse.
    internal override KeptElements Kept => new(
        new((Settings.GateSparsity > 0 ? 4 : 2) * Settings.Inner.Size),
        [new KeptInput(_gateAndUp, Settings.HiddenSize, IsMadeAgain: true), new KeptInput(_down, Settings.Inner.Size, IsMadeAgain: true)],
        [TokenMemory.OfLinear(Settings.Inner.Size, Settings.HiddenSize), TokenMemory.OfLinear(Settings.HiddenSize, 2 * Settings.Inner.Size)]);

    /// <summary>Gate and up projections: two, or one if fused.</summary>
    internal LinearLayer[] GateAndUp => _gateAndUp;

    /// <summary>The down projection, as a single-element array.</summary>
    internal LinearLayer[] Down => _down;

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context) => Run(states, norm, wantsValues: !context.OnlyForGradients);

    /// <summary>Computes the block.</summary>
    /// <param name="states">The states, [..., hidden].</param>
    /// <param name="norm">A norm applied to the states first, or null.</param>
    /// <param name="wantsValues">Whether the output values are needed. If false, only the autograd graph is built and the values may be zeros.</param>
    internal Tensor Run(Tensor states, Norm? norm, bool wantsValues)
    {
        using var scope = NewDisposeScope();
        var parts = LinearLayer.Outputs(states, norm, _gateAndUp);
        if (parts.Count == 1)
        {
            parts = [.. parts[0].chunk(2, -1)];
        }

        var gate = Settings.GateSparsity > 0 ? Largest(parts[0]) : parts[0];
        gate = _multipliers.Gate is { } factor ? gate.mul(factor) : gate;
        var output = ProjectionGroup.Serves(_down[0])
            ? ProjectionGroup.Run(new GatedInput(gate, parts[1], Settings.Activation), wantsValues, _down)[0]
            : _down[0].call(GatedActivation.Of(gate, parts[1], Settings.Activation));
        output = _multipliers.Output is { } last ? output.mul(last) : output;
        return output.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _multipliers.Gate?.Dispose();
            _multipliers.Output?.Dispose();
        }

        base.Dispose(disposing);
    }

    // The largest gates, less the least of them, and 0 for the others: as many as if they were normally distributed.
    private Tensor Largest(Tensor gate)
    {
        using var scope = NewDisposeScope();
        using var share = tensor((2 * Settings.GateSparsity) - 1, WideNumbers.Of(gate.dtype), gate.device);
        using Scalar width = Math.Sqrt(2);
        var least = gate.mean([-1], keepdim: true).Plus(gate.std([-1], unbiased: false, keepdim: true).mul(share.erfinv().mul(width).to(gate.dtype)));
        return gate.sub(least).relu().MoveToOuterDisposeScope();
    }
}

/// <summary>Settings of a gated feed-forward block.</summary>
internal sealed record GatedFeedForwardSettings : FeedForwardSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "mlp";

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width of the hidden layer.</summary>
    public required Dimension Inner { get; init; }

    /// <summary>Activation function of the gate.</summary>
    public required Activation Activation { get; init; }

    /// <summary>Factor of the gate, within the activation.</summary>
    public double GateMultiplier { get; init; } = 1;

    /// <summary>Factor of the output.</summary>
    public double OutputMultiplier { get; init; } = 1;

    /// <summary>Whether gate and up are one projection.</summary>
    public bool FusedProjections { get; init; }

    /// <summary>Whether the projections have a bias.</summary>
    public bool HasBias { get; init; }

    /// <summary>Share of the gates that are set to 0 before the activation, the smallest (Gemma 3n); 0 for none.</summary>
    public double GateSparsity { get; init; }

    /// <summary>Names of the layers in the checkpoint.</summary>
    public FeedForwardNames Names { get; init; } = FeedForwardNames.Usual;

    internal override LayerPart Make(IWeightSource weights, string name) => new GatedFeedForward(this, weights, name);
}

/// <summary>Names of a feed-forward block's layers in a checkpoint.</summary>
/// <param name="Gate">The gate projection, whose output goes through the activation.</param>
/// <param name="Up">The up projection.</param>
/// <param name="Down">The down projection.</param>
/// <param name="Fused">Gate and up as one projection.</param>
internal sealed record FeedForwardNames(string Gate, string Up, string Down, string Fused = "gate_up_proj")
{
    /// <summary>The names used by Llama and most families.</summary>
    public static FeedForwardNames Usual { get; } = new("gate_proj", "up_proj", "down_proj");
}
