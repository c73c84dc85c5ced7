using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>
/// The weighted sum of what a token's experts give, as one autograd function. It stores its input and the output of each expert's first
/// product; backward recomputes the rest, and computes no gradients of frozen weights.
/// </summary>
internal sealed class ExpertProduct : CustomFunction<ExpertProduct>
{
    private const int Sources = 2;

    /// <summary>Computes the sum, [tokens, hidden], in the caller's dispose scope.</summary>
    /// <param name="experts">The experts.</param>
    /// <param name="states">The states, [tokens, hidden].</param>
    /// <param name="weights">Weights of the chosen experts, [tokens, experts per token], in the states' dtype.</param>
    /// <param name="chosen">The chosen experts, [tokens, experts per token], int64.</param>
    /// <param name="scalesInput">Whether the weights multiply the inputs of the experts, and not their outputs.</param>
    /// <param name="wantsValues">Whether the values are needed. If false, only the autograd graph is built and the values are zeros.</param>
    internal static Tensor Run(StackedExperts experts, Tensor states, Tensor weights, Tensor chosen, bool scalesInput, bool wantsValues)
    {
        using var scope = NewDisposeScope();
        Tensor?[] parameters = [.. experts.Matrices.SelectMany(static m => m.Parameters)];
        var call = new Call(experts, ExpertPlan.Of(chosen, experts.Settings.Count), scalesInput, wantsValues);
        if (is_grad_enabled() && (states.requires_grad || weights.requires_grad || parameters.Any(static p => p?.requires_grad == true)))
        {
            return Record([states, weights, call, .. parameters])[0].MoveToOuterDisposeScope();
        }

        using var nothing = no_grad();
        return call.Forward(states, weights, null).MoveToOuterDisposeScope();
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (states, weights, call) = ((Tensor)inputs[0], (Tensor)inputs[1], (Call)inputs[2]);
        var kept = new List<Tensor>();
        var output = call.Forward(states, weights, kept);
        context.save_for_backward([states, weights, call.Plan.Tokens, call.Plan.Order, call.Plan.Places, .. kept]);
        context.save_data("experts", call);
        context.save_data("wanted", Array.ConvertAll(inputs, static i => i is Tensor { requires_grad: true }));
        return [output];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var (call, saved, wanted) = ((Call)context.get_data("experts"), context.get_saved_variables(), (bool[])context.get_data("wanted"));
        var plan = call.Plan with { Tokens = saved[Sources], Order = saved[Sources + 1], Places = saved[Sources + 2] };
        var pass = new ExpertBackward(call.Experts, plan, call.ScalesInput, (saved[0], saved[1]), gradients[0], wanted);
        foreach (var ((expert, start, count), first) in plan.Ranges().Zip(saved[(Sources + 3)..]))
        {
            pass.Add(expert, start, count, first);
        }

        return pass.Gradients();
    }

    private sealed record Call(StackedExperts Experts, ExpertPlan Plan, bool ScalesInput, bool WantsValues)
    {
        // The output; outputs of the first products are added to a list, if given.
        internal Tensor Forward(Tensor states, Tensor weights, List<Tensor>? kept)
        {
            using var scope = NewDisposeScope();
            var ordered = weights.reshape(-1).index_select(0, Plan.Order).unsqueeze(1);
            var sorted = WantsValues ? empty([Plan.Places.numel(), states.size(1)], states.dtype, states.device) : null;
            foreach (var (expert, start, count) in Plan.Ranges())
            {
                using var inner = NewDisposeScope();
                var rows = Plan.Rows(states, start, count);
                var (weight, tokens) = (ordered.narrow(0, start, rows.size(0)), Plan.Tokens.narrow(0, start, rows.size(0)));
                var first = Experts.First.Forward(expert, ScalesInput ? rows.mul_(weight) : rows, tokens);
                if (sorted is not null)
                {
                    var output = Experts.Down.Forward(expert, ExpertActivation.Of(Experts.Settings, first), tokens);
                    _ = sorted.narrow(0, start, count).copy_((ScalesInput ? output : output.mul_(weight)).narrow(0, 0, count));
                }

                kept?.Add(first.MoveToOtherDisposeScope(scope));
            }

            var result = sorted is null ? zeros(states.shape, states.dtype, states.device) : Plan.Gather(sorted);
            kept?.ForEach(static k => k.MoveToOuterDisposeScope());
            return result.MoveToOuterDisposeScope();
        }
    }
}
