using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>The recurrence of Mamba-2 by the kernel of CPUs.</summary>
internal sealed class FusedStateSpace : CustomFunction<FusedStateSpace>
{
    /// <summary>The output, [batch, tokens, heads, width], and the states after the last token, [batch, heads, size, width], in float32.</summary>
    internal static (Tensor Output, Tensor Last) Of(StateSpaceProblem problem)
    {
        Tensor?[] inputs = [problem.Inputs, problem.Step, problem.Rates, problem.Skip, problem.Continues, problem.State];
        if (is_grad_enabled() && Array.Exists(inputs, static t => t?.requires_grad == true))
        {
            var outputs = Record([.. inputs, problem.Sizes]);
            return (outputs[0], outputs[1]);
        }

        var (output, last, _) = StateSpaceKernel.Forward(problem, wantsStarts: false);
        return (output, last);
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        using var nothing = no_grad();
        var tensors = inputs[..^1].Cast<Tensor?>().ToArray();
        var sizes = (StateSpaceSizes)inputs[^1];
        var (output, last, starts) = StateSpaceKernel.Forward(Problem(tensors, sizes), wantsStarts: true);
        context.save_for_backward([starts!, .. tensors.Select(static t => t!)]);
        context.save_data("sizes", sizes);
        return [output, last];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var nothing = no_grad();
        var saved = context.get_saved_variables();
        var found = StateSpaceKernel.Backward(
            Problem([.. saved[1..]], (StateSpaceSizes)context.get_data("sizes")), saved[0], gradients[0].contiguous(), gradients[1].contiguous());
        return [found.Inputs, found.Step, found.Rates, found.Skip, null, saved[6] is null ? null : found.State, null];
    }

    private static StateSpaceProblem Problem(Tensor?[] tensors, StateSpaceSizes sizes) => new(tensors[0]!, tensors[1]!, tensors[2]!, tensors[3]!, tensors[4], tensors[5], sizes);
}
