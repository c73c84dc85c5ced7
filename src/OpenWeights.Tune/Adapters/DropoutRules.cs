using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Kinds of dropout that adapters have besides that of single inputs; they draw from torch's own random numbers.</summary>
internal static class DropoutRules
{
    /// <summary>Whether a module is left out in this pass.</summary>
    /// <param name="probability">The probability.</param>
    internal static bool Skips(double probability)
    {
        if (probability <= 0)
        {
            return false;
        }

        using var scope = NewDisposeScope();
        return rand([1], float32).item<float>() <= probability;
    }

    /// <summary>Factors of the rows of an update, [rows]: 0 for those that are left out.</summary>
    /// <param name="rows">Number of rows.</param>
    /// <param name="probability">The probability of each.</param>
    /// <param name="device">The device.</param>
    /// <param name="rescale">Whether the others are enlarged, so that the mean is 1.</param>
    internal static Tensor Rows(long rows, double probability, Device device, bool rescale)
    {
        using var scope = NewDisposeScope();
        var kept = rand([rows], float32).gt(probability).to(float32);
        return (rescale ? kept.div(kept.mean()) : kept).to(device).MoveToOuterDisposeScope();
    }

    /// <summary>Blocks of which some are replaced by the identity.</summary>
    /// <param name="blocks">The blocks, [blocks, size, size].</param>
    /// <param name="probability">The share of blocks that is replaced.</param>
    internal static Tensor Blocks(Tensor blocks, double probability)
    {
        var count = blocks.size(0);
        var replaced = (long)(probability * count);
        if (count == 1 || replaced == 0)
        {
            return blocks;
        }

        using var scope = NewDisposeScope();
        var order = randperm(count);
        var mask = order.lt((Scalar)replaced).to(float32).to(blocks.device).view(count, 1, 1);
        return blocks.mul(ones_like(mask).sub(mask)).add(Rotations.Identity(count, blocks).mul(mask)).MoveToOuterDisposeScope();
    }
}
