using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>The recurrence of Mamba by the kernel of CPUs.</summary>
internal sealed class FusedSelectiveScan : CustomFunction<FusedSelectiveScan>
{
    /// <summary>The output, [batch, tokens, channels], and the state after the last token, [batch, state size, channels].</summary>
    internal static (Tensor Output, Tensor Last) Of(SelectiveScanProblem problem)
    {
        Tensor?[] inputs = [problem.Step, problem.X, problem.Keys, problem.Queries, problem.Rates, problem.Continues, problem.State];
        if (is_grad_enabled() && Array.Exists(inputs, static t => t?.requires_grad == true))
        {
            var outputs = Record([.. inputs]);
            return (outputs[0], outputs[1]);
        }

        using var scope = NewDisposeScope();
        var (output, last, _) = SelectiveScanKernel.Forward(problem);
        return (output.MoveToOuterDisposeScope(), last.MoveToOuterDisposeScope());
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var tensors = inputs.Cast<Tensor?>().ToArray();
        var (output, last, starts) = SelectiveScanKernel.Forward(Problem(tensors));
        context.save_for_backward([starts, .. tensors.Select(static t => t!)]);
        return [output, last];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var saved = context.get_saved_variables();
        var found = SelectiveScanKernel.Backward(Problem([.. saved[1..]]), saved[0], gradients[0].contiguous(), gradients[1].contiguous());
        return [found.Step, found.X, found.Keys, found.Queries, found.Rates, null, saved[7] is null ? null : found.State];
    }

    private static SelectiveScanProblem Problem(Tensor?[] tensors) => new(tensors[0]!, tensors[1]!, tensors[2]!, tensors[3]!, tensors[4]!, tensors[5], tensors[6]);
}
