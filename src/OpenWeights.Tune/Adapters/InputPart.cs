using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The part of an adapter that turns the input of a layer, y = W R x + b, so that W' = W R.</summary>
internal abstract class InputPart : LinearPart
{
    private protected InputPart(ModuleSite site, params (string Name, Parameter Parameter)[] own)
        : base(site, own)
    {
    }

    internal override long KeptPerToken => 2 * Target.InFeatures;

    public sealed override Tensor Apply(LinearLayer layer, Tensor input, Tensor output) => Replace(layer, input)!;

    public override Tensor? Replace(LinearLayer layer, Tensor input)
    {
        using var scope = NewDisposeScope();
        return layer.Plain(Turned(input), layer.Bias).MoveToOuterDisposeScope();
    }

    /// <summary>The input of the layer, in its own dtype.</summary>
    private protected Tensor Turned(Tensor input) => Turn(input.Widened().reshape(-1, input.size(-1))).view(input.shape).to(input.dtype);

    /// <summary>x Rᵀ, [rows, in], in at least float32.</summary>
    /// <param name="states">x, [rows, in].</param>
    private protected abstract Tensor Turn(Tensor states);
}
