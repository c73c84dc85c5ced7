using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Models;

/// <summary>Root mean square normalisation that keeps its input and a number for each row, in one pass each way.</summary>
internal sealed class FusedRmsNorm : SingleTensorFunction<FusedRmsNorm>
{
    public override string Name => nameof(FusedRmsNorm);

    /// <summary>Whether a norm can be computed so.</summary>
    internal static bool Serves(Tensor input, Tensor weight) => CpuKernel.Serves(input) && CpuKernel.Serves(weight);

    /// <summary>The normalised input.</summary>
    /// <param name="input">[..., features].</param>
    /// <param name="weight">[features].</param>
    /// <param name="settings">How it computes.</param>
    internal static Tensor Of(Tensor input, Tensor weight, NormSettings settings)
    {
        if (is_grad_enabled() && (input.requires_grad || weight.requires_grad))
        {
            return apply(input, weight, settings);
        }

        using var scope = NewDisposeScope();
        return Forward(input, weight, settings).Output.MoveToOuterDisposeScope();
    }

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        var (input, weight, settings) = ((Tensor)vars[0], (Tensor)vars[1], (NormSettings)vars[2]);
        using var scope = NewDisposeScope();
        var (output, factors) = Forward(input, weight, settings);
        ctx.save_for_backward([input, weight, factors.MoveToOuterDisposeScope()]);
        ctx.save_data("settings", settings);
        ctx.save_data("wants weight", weight.requires_grad);
        return output.MoveToOuterDisposeScope();
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        var saved = ctx.get_saved_variables();
        var (input, weight) = Backward((saved[0], saved[1], saved[2]), grad_output, (NormSettings)ctx.get_data("settings"), (bool)ctx.get_data("wants weight"));
        return BackwardResults.Keep(ctx, input, weight, null);
    }

    /// <summary>The output and each row's factor, in the caller's dispose scope.</summary>
    internal static (Tensor Output, Tensor Factors) Forward(Tensor input, Tensor weight, NormSettings settings)
    {
        using var scope = NewDisposeScope();
        var (output, factors) = RmsNormKernel.Forward(input, Scale(weight, settings), (float)settings.Epsilon, !settings.ScalesBeforeRounding);
        return (output.MoveToOuterDisposeScope(), factors.MoveToOuterDisposeScope());
    }

    /// <summary>The output again, in the caller's dispose scope.</summary>
    internal static Tensor Again(Tensor input, Tensor weight, Tensor factors, NormSettings settings)
    {
        using var scope = NewDisposeScope();
        return RmsNormKernel.Again(input, Scale(weight, settings), factors, !settings.ScalesBeforeRounding).MoveToOuterDisposeScope();
    }

    /// <summary>The gradients of the input and, where it is wanted, the weight, in no dispose scope.</summary>
    internal static (Tensor Input, Tensor? Weight) Backward((Tensor Input, Tensor Weight, Tensor Factors) saved, Tensor gradient, NormSettings settings, bool wantsWeight)
    {
        using var scope = NewDisposeScope();
        var (input, scale) = RmsNormKernel.Backward(saved.Input, Scale(saved.Weight, settings), saved.Factors, gradient.contiguous(), wantsWeight);
        return (scope.Detach(input), scale is null ? null : scope.Detach(scale.to(saved.Weight.dtype)));
    }

    private static Tensor Scale(Tensor weight, NormSettings settings)
    {
        var scale = weight.detach().to(float32);
        return settings.AddsOne ? scale.add(Scalars.One, Scalars.One) : scale;
    }
}
