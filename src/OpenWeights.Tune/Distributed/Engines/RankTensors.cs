using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed.Engines;

/// <summary>What engines ask of tensors.</summary>
internal static class RankTensors
{
    internal static long Bytes(Tensor tensor) => tensor.numel() * tensor.element_size();

    internal static void RequireSum(Tensor values)
    {
        if (!RankSum.Has(values.dtype))
        {
            throw new ArgumentException($"sums over ranks are of float32, float64 and int64, not of {values.dtype}", nameof(values));
        }
    }

    internal static void RequireParts(Tensor values, Tensor part, int size)
    {
        if (values.dtype != part.dtype || part.numel() * size != values.numel())
        {
            throw new ArgumentException($"a part of {part.numel()} {part.dtype} of {values.numel()} {values.dtype} among {size} ranks", nameof(part));
        }
    }

    internal static void RequireAllToAll(Tensor sent, Tensor received, int size)
    {
        if (sent.dtype != received.dtype || sent.numel() != received.numel() || sent.numel() % size != 0)
        {
            throw new ArgumentException($"an all-to-all of {sent.numel()} {sent.dtype} into {received.numel()} {received.dtype} among {size} ranks", nameof(received));
        }
    }
}
