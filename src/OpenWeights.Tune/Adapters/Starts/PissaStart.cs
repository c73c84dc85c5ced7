using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// PiSSA (Meng et al., 2024): A = sqrt(S) Vᵀ and B = U sqrt(S), where S = singular values / s are the largest of the weight; by a full decomposition
/// or by subspace iteration.
/// </summary>
internal static class PissaStart
{
    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        var (u, s, v) = Decompose(context);
        using Scalar inverse = 1 / context.Scale;
        var root = s.mul(inverse).sqrt();
        return LoraStarts.Subtracted(v.t().mul(root.unsqueeze(1)), u.mul(root));
    }

    private static (Tensor U, Tensor S, Tensor V) Decompose(StartContext context)
    {
        if (context.Config.PissaIterations is { } iterations)
        {
            return LowRankSvd.Of(context.Weight, context.Rank, iterations, context.Generator!);
        }

        var (u, s, vh) = linalg.svd(context.Weight, fullMatrices: false);
        return (u.narrow(1, 0, context.Rank), s.narrow(0, 0, context.Rank), vh.narrow(0, 0, context.Rank).t());
    }
}
