using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>What an expert computes between its two products, without autograd.</summary>
internal static class ExpertActivation
{
    /// <summary>Whether it is act(gate) · up.</summary>
    internal static bool IsGated(ExpertSettings settings) => settings.HasGate && settings.Clamp is null;

    /// <summary>
    /// The sum, over features, of act(gate) · up x its gradient, [rows], float32, where the activation <see cref="IsGated"/>: it is that of up x up's gradient.
    /// </summary>
    /// <param name="settings">Settings of the experts.</param>
    /// <param name="states">Output of the first product, [rows, features].</param>
    /// <param name="gradient">Gradient of the first product's output.</param>
    internal static Tensor UpShare(ExpertSettings settings, Tensor states, Tensor gradient) =>
        Split(settings, states).Up.Widened().mul(Split(settings, gradient).Up).sum(-1);

    /// <summary>act(gate) · up, or act(up), [rows, inner].</summary>
    /// <param name="settings">Settings of the experts.</param>
    /// <param name="states">Output of the first product, [rows, features].</param>
    internal static Tensor Of(ExpertSettings settings, Tensor states)
    {
        if (IsGated(settings))
        {
            var (gate, up) = Split(settings, states);
            return GatedActivation.Product(gate, up, settings.Activation);
        }

        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        return Composed(settings, states).MoveToOuterDisposeScope();
    }

    /// <summary>Gradient of the first product's output, in the caller's dispose scope.</summary>
    /// <param name="settings">Settings of the experts.</param>
    /// <param name="states">Output of the first product, [rows, features].</param>
    /// <param name="gradient">Gradient of <see cref="Of"/>.</param>
    internal static Tensor Backward(ExpertSettings settings, Tensor states, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        if (IsGated(settings))
        {
            var whole = empty(states.shape, states.dtype, states.device);
            var ((gate, up), (gradGate, gradUp)) = (Split(settings, states), Split(settings, whole));
            GatedActivation.InputGradients(gate, up, settings.Activation, gradient, gradGate, gradUp);
            return whole.MoveToOuterDisposeScope();
        }

        using var recorded = enable_grad();
        var leaf = states.detach().requires_grad_();
        BackwardPass.Run([Composed(settings, leaf)], [gradient]);
        return leaf.grad!.MoveToOuterDisposeScope();
    }

    private static Tensor Composed(ExpertSettings settings, Tensor states)
    {
        if (settings.Clamp is not { } clamp)
        {
            return settings.Activation.Apply(states);
        }

        var (gate, up) = Split(settings, states);
        using Scalar alpha = clamp.Alpha;
        using Scalar negative = -clamp.Limit;
        Tensor AtMost(Tensor x) => x.neg().clamp_min(negative).neg();
        gate = AtMost(gate);
        return AtMost(up).clamp_min(negative).add(Scalars.One).mul(gate.mul(gate.mul(alpha).sigmoid()));
    }

    private static (Tensor Gate, Tensor Up) Split(ExpertSettings settings, Tensor states)
    {
        var (rows, inner) = (states.size(0), settings.Inner.Size);
        if (!settings.IsInterleaved)
        {
            return (states.narrow(1, 0, inner), states.narrow(1, inner, inner));
        }

        var pairs = states.view(rows, inner, 2);
        return (pairs.select(2, 0), pairs.select(2, 1));
    }
}
