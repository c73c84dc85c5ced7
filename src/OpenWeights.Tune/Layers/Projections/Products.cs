using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Projections;

/// <summary>Matrix products accumulated in place.</summary>
internal static class Products
{
    /// <summary>sum += scale x left x right.</summary>
    /// <param name="sum">The sum, [rows, columns], float32.</param>
    /// <param name="left">Left factor, [rows, depth], float32.</param>
    /// <param name="right">Right factor, [depth, columns], float32.</param>
    /// <param name="scale">Scaling factor.</param>
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
