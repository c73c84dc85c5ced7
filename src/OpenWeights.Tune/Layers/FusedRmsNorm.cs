using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers;

/// <summary>RMS normalization that stores its input and one number per row for backward, with one pass in each direction.</summary>
internal sealed class FusedRmsNorm : CustomFunction<FusedRmsNorm>
{
    /// <summary>Whether a norm is supported.</summary>
    internal static bool Serves(Tensor input, Tensor weight) => CpuKernel.Serves(input) && CpuKernel.Serves(weight);

    /// <summary>Normalizes the input.</summary>
    /// <param name="input">The input, [..., features].</param>
    /// <param name="weight">The weight, [features].</param>
    /// <param name="settings">Settings of the norm.</param>
    internal static Tensor Of(Tensor input, Tensor weight, RmsNormSettings settings)
    {
        if (is_grad_enabled() && (input.requires_grad || weight.requires_grad))
        {
            return Record(input, weight, settings)[0];
        }

        using var scope = NewDisposeScope();
        return Forward(input, weight, settings).Output.MoveToOuterDisposeScope();
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (input, weight, settings) = ((Tensor)inputs[0], (Tensor)inputs[1], (RmsNormSettings)inputs[2]);
        var (output, factors) = Forward(input, weight, settings);
        context.save_for_backward([input, weight, factors]);
        context.save_data("settings", settings);
        context.save_data("wants weight", weight.requires_grad);
        return [output];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var saved = context.get_saved_variables();
        var (input, weight) = Backward((saved[0], saved[1], saved[2]), gradients[0], (RmsNormSettings)context.get_data("settings"), (bool)context.get_data("wants weight"));
        return [input, weight, null];
    }

    /// <summary>The output and each row's normalization factor, in the caller's dispose scope.</summary>
    internal static (Tensor Output, Tensor Factors) Forward(Tensor input, Tensor weight, RmsNormSettings settings)
    {
        using var scope = NewDisposeScope();
        var (output, factors) = RmsNormKernel.Forward(input, Scale(weight, settings), settings.Epsilon, !settings.ScalesBeforeRounding);
        return (output.MoveToOuterDisposeScope(), factors.MoveToOuterDisposeScope());
    }

    /// <summary>Recomputes the output, in the caller's dispose scope.</summary>
    internal static Tensor Again(Tensor input, Tensor weight, Tensor factors, RmsNormSettings settings)
    {
        using var scope = NewDisposeScope();
        return RmsNormKernel.Again(input, Scale(weight, settings), factors, !settings.ScalesBeforeRounding).MoveToOuterDisposeScope();
    }

    /// <summary>Gradients of the input and, if needed, the weight, in the caller's dispose scope.</summary>
    internal static (Tensor Input, Tensor? Weight) Backward((Tensor Input, Tensor Weight, Tensor Factors) saved, Tensor gradient, RmsNormSettings settings, bool wantsWeight)
    {
        using var scope = NewDisposeScope();
        var (input, scale) = RmsNormKernel.Backward(saved.Input, Scale(saved.Weight, settings), saved.Factors, gradient.contiguous(), wantsWeight);
        return (input.MoveToOuterDisposeScope(), scale?.to(saved.Weight.dtype).MoveToOuterDisposeScope());
    }

    private static Tensor Scale(Tensor weight, RmsNormSettings settings)
    {
        var scale = weight.detach().Widened();
        return settings.AddsOne ? scale.add(Scalars.One, Scalars.One) : scale;
    }
}
