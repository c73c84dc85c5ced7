using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Projections;

/// <summary>Products of matrices that are added where their sum lies.</summary>
internal static class Products
{
    /// <summary>sum += scale x left x right.</summary>
    /// <param name="sum">[rows, columns], float32.</param>
    /// <param name="left">[rows, depth], float32.</param>
    /// <param name="right">[depth, columns], float32.</param>
    /// <param name="scale">The scale.</param>
    internal static void Add(Tensor sum, Tensor left, Tensor right, float scale = 1)
    {
        if (NarrowProduct.Serves(sum, left, right))
        {
            NarrowProduct.Add(sum, left, right, scale);
        }
        else
        {
            _ = sum.addmm_(left, right, alpha: scale);
        }
    }

    /// <summary>scale x left x right, in the caller's dispose scope.</summary>
    internal static Tensor Of(Tensor left, Tensor right, float scale = 1)
    {
        var sum = zeros([left.size(0), right.size(1)], float32, left.device);
        Add(sum, left, right, scale);
        return sum;
    }
}
