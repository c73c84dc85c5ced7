using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Optimizers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>What is done to all gradients together.</summary>
public static class Gradients
{
    /// <summary>The 2-norm of all gradients together.</summary>
    /// <param name="parameters">What is trained.</param>
    public static double Norm(IReadOnlyList<TrainedParameter> parameters)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var gradients = Of(parameters);
        return gradients.TrueForAll(CpuKernel.Serves) ? Math.Sqrt(SquareSumKernel.Of(gradients)) : NormTensor(parameters)?.ToDouble() ?? 0;
    }

    /// <summary>The 2-norm of all gradients together where they are, a float32 scalar in the caller's dispose scope; null where there is no gradient.</summary>
    /// <param name="parameters">What is trained.</param>
    internal static Tensor? NormTensor(IReadOnlyList<TrainedParameter> parameters)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var gradients = Of(parameters);
        return gradients.Count == 0 ? null : stack(gradients.Select(static g => g.to(float32).norm())).norm().MoveToOuterDisposeScope();
    }

    /// <summary>What gradients of a norm are multiplied by so that it is at most <paramref name="maxNorm"/>, as by PyTorch's clip_grad_norm_.</summary>
    /// <param name="norm">The norm.</param>
    /// <param name="maxNorm">The largest norm; 0 for no limit.</param>
    public static double ClipFactor(double norm, double maxNorm) => maxNorm > 0 ? Math.Min(1, maxNorm / (norm + 1e-6)) : 1;

    /// <summary>Drops all gradients, and their memory.</summary>
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
