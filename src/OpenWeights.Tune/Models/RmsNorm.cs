using OpenWeights.Tune.Torch;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Root mean square normalisation (Zhang and Sennrich, 2019), computed in float32 whatever the dtype of the model.</summary>
public sealed class RmsNorm : nn.Module<Tensor, Tensor>, IWeighted
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    private readonly WeightSlot _slot;
    private readonly Scalar _epsilon;

    /// <summary>A norm around its weight.</summary>
    /// <param name="weight">The scale, [features].</param>
    /// <param name="epsilon">What keeps the root mean square from being zero.</param>
    public RmsNorm(Parameter weight, double epsilon)
        : base(nameof(RmsNorm))
    {
        _weight = weight;
        _slot = new WeightSlot("weight", _weight);
        _epsilon = epsilon;
        RegisterComponents();
    }

    /// <inheritdoc/>
    public IReadOnlyList<WeightSlot> Slots => [_slot];

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var scope = NewDisposeScope();
        var states = input.to(float32);
        var inverse = states.mul(states).mean([-1], keepdim: true).add_(_epsilon, Scalars.One).rsqrt_();
        return states.mul(inverse).to(input.dtype).mul(_slot.Current!).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _epsilon.Dispose();
        }

        base.Dispose(disposing);
    }
}
