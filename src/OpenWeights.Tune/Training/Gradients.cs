using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Optimizers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Operations on all gradients together.</summary>
internal static class Gradients
{
    /// <summary>Global 2-norm of the gradients.</summary>
    /// <param name="parameters">The trained parameters.</param>
    public static double Norm(IReadOnlyList<TrainedParameter> parameters)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var gradients = Of(parameters);
        return gradients.TrueForAll(CpuKernel.Serves) ? Math.Sqrt(SquareSumKernel.Of(gradients)) : NormTensor(parameters)?.ToDouble() ?? 0;
    }

    /// <summary>
    /// Global 2-norm of the gradients on their device, a float32 scalar in the caller's dispose scope; null if there are no gradients.
    /// </summary>
    /// <param name="parameters">The trained parameters.</param>
    internal static Tensor? NormTensor(IReadOnlyList<TrainedParameter> parameters)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var gradients = Of(parameters);
        var device = gradients.Count == 0 ? CPU : parameters[^1].Parameter.device;
        return gradients.Count == 0 ? null : stack(gradients.Select(g => g.to(float32).norm().to(device))).norm().MoveToOuterDisposeScope();
    }

    /// <summary>Factor that scales gradients of a given norm to at most <paramref name="maxNorm"/>, as PyTorch's clip_grad_norm_.</summary>
    /// <param name="norm">The norm.</param>
    /// <param name="maxNorm">Maximum norm; 0 for no clipping.</param>
    public static double ClipFactor(double norm, double maxNorm) => maxNorm > 0 ? Math.Min(1, maxNorm / (norm + 1e-6)) : 1;

    /// <summary>Limits the magnitude of each element, as PyTorch's clip_grad_value_.</summary>
    /// <param name="parameters">The trained parameters.</param>
    /// <param name="largest">The largest magnitude.</param>
    public static void ClipValues(IReadOnlyList<TrainedParameter> parameters, double largest)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using Scalar least = -largest, most = largest;
        Of(parameters).ForEach(gradient => _ = gradient.clamp_(least, most));
    }

    /// <summary>Removes all gradients and frees their memory.</summary>
    public static void Drop(IReadOnlyList<TrainedParameter> parameters)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        foreach (var trained in parameters)
        {
            trained.Parameter.grad = null;
        }
    }

    // In the caller's dispose scope.
    private static List<Tensor> Of(IReadOnlyList<TrainedParameter> parameters) => [.. parameters.Select(static p => p.Parameter.grad).OfType<Tensor>()];
}
