using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Projections;

/// <summary>Gradient of an input shared by several layers, accumulated in float32 in place.</summary>
internal sealed class InputGradient
{
    private Tensor? _sum;

    /// <summary>Adds a product, [rows, k] x [k, features].</summary>
    internal void AddProduct(Tensor left, Tensor right)
    {
        if (_sum is null)
        {
            Add(left.mm(right));
        }
        else if (left.dtype == float32)
        {
            Products.Add(_sum, left, right);
        }
        else
        {
            Add(left.mm(right));
        }
    }

    /// <summary>Adds a gradient, [rows, features], and disposes it.</summary>
    internal void Add(Tensor gradient)
    {
        var part = gradient.to(float32);
        if (_sum is null)
        {
            // It outlives the scope of the layer it comes from.
            _sum = part.MoveToOuterDisposeScope();
        }
        else
        {
            _ = _sum.PlusInPlace(part);
        }
    }

    /// <summary>
    /// The sum, [..., features], with the dtype and leading dimensions of an output's gradient. It can be taken once, and is in the
    /// caller's dispose scope.
    /// </summary>
    internal Tensor Of(Tensor given)
    {
        var whole = _sum!.to(given.dtype).view([.. given.shape[..^1], _sum.size(1)]);
        _sum.Dispose();
        return whole;
    }
}
