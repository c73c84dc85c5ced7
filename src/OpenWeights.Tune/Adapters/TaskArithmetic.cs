using System.Runtime.InteropServices;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Weighted sums of tensors of several adapters, as PEFT's merge_utils: plain, with small values dropped (magnitude), with random values dropped and the rest
/// scaled up (DARE; Yu et al., 2024), and with values of the minority sign left out (TIES; Yadav et al., 2023).
/// </summary>
/// <param name="how">The combination.</param>
internal sealed class TaskArithmetic(AdapterCombination how) : IDisposable
{
    private readonly Generator _generator = new((ulong)how.Seed, CPU);
    private int _masks;

    /// <summary>The combined tensor, in the caller's dispose scope.</summary>
    /// <param name="tensors">Tensors of one shape, float32.</param>
    /// <param name="weights">Weight of each.</param>
    internal Tensor Combine(IReadOnlyList<Tensor> tensors, IReadOnlyList<double> weights)
    {
        using var scope = NewDisposeScope();
        var kept = stack(tensors.Select(Pruned).ToArray());
        var weighted = stack([.. Enumerable.Range(0, tensors.Count).Select(i => Times(kept.select(0, i), weights[i]))]);
        return (how.Type.Contains("ties", StringComparison.Ordinal) ? Majority(kept, weighted) : weighted.sum([0L])).MoveToOuterDisposeScope();
    }

    public void Dispose() => _generator.Dispose();

    private static Tensor Times(Tensor tensor, double weight)
    {
        using Scalar factor = (float)weight;
        return tensor.mul(factor);
    }

    private Tensor Pruned(Tensor tensor)
    {
        if (!how.Prunes || how.Density >= 1)
        {
            return tensor;
        }

        return how.Type.StartsWith("dare", StringComparison.Ordinal) ? Times(tensor.mul(RandomMask(tensor)), 1 / how.Density) : tensor.mul(LargestMask(tensor, (long)(how.Density * tensor.numel())));
    }

    private Tensor RandomMask(Tensor like)
    {
        var number = _masks++;
        if (how.KeepMask is { } given)
        {
            return given(number, like.shape).to(float32, like.device);
        }

        using Scalar density = how.Density;
        return rand(like.shape, float32, CPU, generator: _generator).lt(density).to(float32, like.device);
    }

    // 1 at the values of largest magnitude.
    private static Tensor LargestMask(Tensor values, long count)
    {
        var sizes = MemoryMarshal.Cast<byte, float>(values.abs().cpu().contiguous().bytes).ToArray();
        var order = Enumerable.Range(0, sizes.Length).ToArray();
        Array.Sort(sizes.Select(static s => -s).ToArray(), order);
        var mask = new float[sizes.Length];
        foreach (var place in order.AsSpan(0, (int)count))
        {
            mask[place] = 1;
        }

        return tensor(mask, values.shape).to(values.device);
    }

    // The mean of the weighted values that have the majority's sign.
    private Tensor Majority(Tensor kept, Tensor weighted)
    {
        var signs = kept.sign();
        var total = (how.ByFrequency ? signs : kept).sum([0L]);
        var majority = total.ge(Scalars.Zero).to(float32);
        using Scalar two = 2, minusOne = -1;
        var mask = signs.eq(majority.mul(two).add(minusOne).unsqueeze(0)).to(float32);
        return weighted.mul(mask).sum([0L]).div(mask.sum([0L]).clamp_min(Scalars.One));
    }
}
