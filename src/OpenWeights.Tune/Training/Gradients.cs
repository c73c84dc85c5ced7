using OpenWeights.Tune.Training.Optimizers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>What is done to all gradients together.</summary>
public static class Gradients
{
    /// <summary>The common 2-norm of the gradients, and their scaling so that it is at most <paramref name="maxNorm"/> (as PyTorch's clip_grad_norm_).</summary>
    /// <param name="parameters">What is trained.</param>
    /// <param name="maxNorm">The largest norm; 0 for no limit.</param>
    /// <returns>The norm before scaling.</returns>
    public static double Clip(IReadOnlyList<TrainedParameter> parameters, double maxNorm)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var gradients = parameters.Select(static p => p.Parameter.grad).OfType<Tensor>().ToList();
        if (gradients.Count == 0)
        {
            return 0;
        }

        var norm = stack(gradients.Select(static g => g.to(float32).norm())).norm().ToDouble();
        var factor = maxNorm / (norm + 1e-6);
        if (maxNorm > 0 && factor < 1)
        {
            using Scalar scale = factor;
            gradients.ForEach(g => g.mul_(scale));
        }

        return norm;
    }

    /// <summary>Drops all gradients, and their memory.</summary>
    public static void Drop(IReadOnlyList<TrainedParameter> parameters)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        foreach (var trained in parameters)
        {
            trained.Parameter.grad = null;
        }
    }
}
