using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// The loss of a head with an adapter or bias, a few rows at a time: backward recomputes the logits of each chunk, so
/// that at most one chunk of [rows, vocabulary] exists.
/// </summary>
internal sealed class RecomputedHeadLoss : CustomFunction<RecomputedHeadLoss>
{
    /// <summary>The summed loss, a float32 scalar. In backward, gradients are accumulated in the leaf tensors of the loss.</summary>
    /// <param name="hidden">Hidden states, [rows, hidden].</param>
    /// <param name="targets">Target ids, [rows], int64.</param>
    /// <param name="rowsOfChunk">Number of rows per chunk.</param>
    /// <param name="loss">Computes the summed loss of some rows of both.</param>
    internal static Tensor Sum(Tensor hidden, Tensor targets, long rowsOfChunk, Func<Tensor, Tensor, Tensor> loss)
    {
        // Even if everything before the head is frozen, the head's own leaf tensors need gradients.
        var reached = is_grad_enabled() && !hidden.requires_grad ? hidden.detach().requires_grad_() : hidden;
        return Record(reached, targets, rowsOfChunk, loss)[0];
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (hidden, targets, rows, loss) = ((Tensor)inputs[0], (Tensor)inputs[1], (long)inputs[2], (Func<Tensor, Tensor, Tensor>)inputs[3]);
        context.save_for_backward([hidden, targets]);
        context.save_data("rows", rows);
        context.save_data("loss", loss);
        context.save_data("random", RandomState.Note(hidden.device));
        var sum = zeros([], float32, hidden.device);
        foreach (var (states, wanted) in Chunks(hidden, targets, rows))
        {
            using var inner = NewDisposeScope();
            _ = sum.PlusInPlace(loss(states, wanted));
        }

        return [sum];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var after = RandomState.BeforeAgain(gradients[0].device);
        ((RandomState)context.get_data("random")).Restore();
        try
        {
            return [HiddenGradient(context, gradients[0]), null, null, null];
        }
        finally
        {
            after?.Restore();
        }
    }

    private static Tensor HiddenGradient(AutogradContext context, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        var saved = context.get_saved_variables();
        var loss = (Func<Tensor, Tensor, Tensor>)context.get_data("loss");
        var result = saved[0].empty_like();
        var start = 0L;
        foreach (var (states, wanted) in Chunks(saved[0], saved[1], (long)context.get_data("rows")))
        {
            using var inner = NewDisposeScope();
            var leaf = states.detach().requires_grad_();
            using (enable_grad())
            {
                BackwardPass.Run([loss(leaf, wanted)], [gradient]);
            }

            _ = result.narrow(0, start, leaf.size(0)).copy_(leaf.grad!);
            start += leaf.size(0);
        }

        return result.MoveToOuterDisposeScope();
    }

    private static IEnumerable<(Tensor Hidden, Tensor Targets)> Chunks(Tensor hidden, Tensor targets, long rows)
    {
        for (long start = 0; start < targets.size(0); start += rows)
        {
            var count = Math.Min(rows, targets.size(0) - start);
            yield return (hidden.narrow(0, start, count), targets.narrow(0, start, count));
        }
    }
}
