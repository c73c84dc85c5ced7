using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>The gated feed-forward of a layer: down(act(gate(x)) · up(x)) (SwiGLU; Shazeer, 2020).</summary>
public sealed class FeedForward : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "gate_proj")]
    private readonly LinearLayer _gate;

    [ComponentName(Name = "up_proj")]
    private readonly LinearLayer _up;

    [ComponentName(Name = "down_proj")]
    private readonly LinearLayer _down;

    /// <summary>The feed-forward of a layer.</summary>
    /// <param name="config">The decoder's settings.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The module's name in the checkpoint.</param>
    public FeedForward(DecoderConfig config, IWeightSource weights, string name)
        : base(nameof(FeedForward))
    {
        ArgumentNullException.ThrowIfNull(config);
        var hidden = new Dimension("hidden_size", config.HiddenSize);
        var inner = new Dimension("intermediate_size", config.IntermediateSize);
        _gate = LinearLayer.Take(weights, $"{name}.gate_proj", inner, hidden, config.FeedForwardBias);
        _up = LinearLayer.Take(weights, $"{name}.up_proj", inner, hidden, config.FeedForwardBias);
        _down = LinearLayer.Take(weights, $"{name}.down_proj", hidden, inner, config.FeedForwardBias);
        RegisterComponents();
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        return _down.call(nn.functional.silu(_gate.call(input)).mul(_up.call(input))).MoveToOuterDisposeScope();
    }
}
