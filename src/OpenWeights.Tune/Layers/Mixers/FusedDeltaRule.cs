using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>The gated delta rule by the kernel of CPUs.</summary>
internal sealed class FusedDeltaRule : CustomFunction<FusedDeltaRule>
{
    private const int Differentiable = 5;

    /// <summary>What the tokens read, [batch, tokens, heads, value width], and the matrices behind the last token, null where gradients are wanted.</summary>
    internal static (Tensor Output, Tensor? End) Of(DeltaRuleProblem problem)
    {
        Tensor?[] inputs = [problem.Query, problem.Key, problem.Value, problem.Decay, problem.Beta, problem.Continues, problem.State];
        if (is_grad_enabled() && Array.Exists(inputs, static t => t?.requires_grad == true))
        {
            return (Record([.. inputs])[0], null);
        }

        var (output, last, _) = DeltaRuleKernel.Forward(problem, wantsStarts: false);
        return (output, last);
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        using var nothing = no_grad();
        var tensors = inputs.Cast<Tensor?>().ToArray();
        var (output, _, starts) = DeltaRuleKernel.Forward(Problem(tensors), wantsStarts: true);
        context.save_for_backward([starts!, .. tensors.Select(static t => t!)]);
        return [output];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var nothing = no_grad();
        var saved = context.get_saved_variables();
        var found = DeltaRuleKernel.Backward(Problem([.. saved[1..]]), saved[0], gradients[0].contiguous());
        return [.. found.Take(Differentiable), null, saved[^1] is null ? null : found[^1]];
    }

    private static DeltaRuleProblem Problem(Tensor?[] tensors) => new(tensors[0]!, tensors[1]!, tensors[2]!, tensors[3]!, tensors[4]!, tensors[5], tensors[6]);
}
