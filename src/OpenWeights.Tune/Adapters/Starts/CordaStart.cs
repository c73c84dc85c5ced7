using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// CorDA (Yang et al., 2024): W C = U S Vᵀ, with the covariance C of the layer's inputs; A = sqrt(S) Vᵀ C⁻¹ and B = U sqrt(S) of the largest (ipm) or
/// smallest (kpm) singular values, S divided by s.
/// </summary>
internal static class CordaStart
{
    private const double FirstDamping = 0.01;
    private const double LargestError = 0.05;

    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        var (covariance, inverse) = Damped(context.Findings!.Of(context.Module));
        var (u, s, vh) = linalg.svd(context.Weight.mm(covariance), fullMatrices: false);
        var first = context.Config.Corda.PreservesKnowledge ? context.SingularValues - context.Rank : 0;
        using Scalar perScale = 1 / context.Scale;
        var root = s.narrow(0, first, context.Rank).mul(perScale).sqrt();
        return LoraStarts.Subtracted(vh.narrow(0, first, context.Rank).mm(inverse).mul(root.unsqueeze(1)), u.narrow(1, first, context.Rank).mul(root));
    }

    // The covariance with enough on its diagonal that its inverse is one, and the inverse.
    private static (Tensor Covariance, Tensor Inverse) Damped(Tensor covariance)
    {
        var size = covariance.size(0);
        var identity = diag_embed(ones([size], float32, covariance.device));
        var mean = covariance.diagonal(0, 0, 1).mean();
        for (var damping = FirstDamping; ; damping *= 2)
        {
            using Scalar factor = damping;
            var damped = covariance.add(identity.mul(mean).mul(factor));
            var inverse = linalg.inv(damped);
            if (damped.mm(inverse).sub(identity).norm().ToDouble() < LargestError)
            {
                return (damped, inverse);
            }

            if (!double.IsFinite(damping))
            {
                throw new InvalidDataException("init_lora_weights: corda: the inputs of a layer have no covariance that can be inverted; give it more or other training data.");
            }
        }
    }
}
