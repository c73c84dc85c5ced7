using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// The loss of a head that is more than its weight (it has an adapter, or a bias), a few rows at a time: backward makes each chunk's scores
/// again, so that never more than a chunk of [rows, vocabulary] exists.
/// </summary>
internal sealed class RecomputedHeadLoss : SingleTensorFunction<RecomputedHeadLoss>
{
    public override string Name => nameof(RecomputedHeadLoss);

    /// <summary>The summed loss, a float32 scalar. Gradients of what the loss is made with are added to its leaves.</summary>
    /// <param name="hidden">[rows, hidden].</param>
    /// <param name="targets">[rows], int64.</param>
    /// <param name="rowsOfChunk">How many rows go through the head at once.</param>
    /// <param name="loss">The summed loss of some rows of both.</param>
    internal static Tensor Sum(Tensor hidden, Tensor targets, long rowsOfChunk, Func<Tensor, Tensor, Tensor> loss)
    {
        // Where all before the head is frozen, the head's own leaves must be reached all the same.
        var reached = is_grad_enabled() && !hidden.requires_grad ? hidden.detach().requires_grad_() : hidden;
        return apply(reached, targets, rowsOfChunk, loss);
    }

    public override Tensor forward(AutogradContext ctx, params object[] vars)
    {
        var (hidden, targets, rows, loss) = ((Tensor)vars[0], (Tensor)vars[1], (long)vars[2], (Func<Tensor, Tensor, Tensor>)vars[3]);
        ctx.save_for_backward([hidden, targets]);
        ctx.save_data("rows", rows);
        ctx.save_data("loss", loss);
        ctx.save_data("random", RandomState.Note(hidden.device));
        using var scope = NewDisposeScope();
        var sum = zeros([], float32, hidden.device);
        foreach (var (states, wanted) in Chunks(hidden, targets, rows))
        {
            using var inner = NewDisposeScope();
            _ = sum.PlusInPlace(loss(states, wanted));
        }

        return sum.MoveToOuterDisposeScope();
    }

    public override List<Tensor> backward(AutogradContext ctx, Tensor grad_output)
    {
        var after = RandomState.BeforeAgain(grad_output.device);
        ((RandomState)ctx.get_data("random")).Restore();
        try
        {
            return BackwardResults.Keep(ctx, HiddenGradient(ctx, grad_output), null, null, null);
        }
        finally
        {
            after?.Restore();
        }
    }

    private static Tensor HiddenGradient(AutogradContext ctx, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        var saved = ctx.get_saved_variables();
        var loss = (Func<Tensor, Tensor, Tensor>)ctx.get_data("loss");
        var result = saved[0].empty_like();
        var start = 0L;
        foreach (var (states, wanted) in Chunks(saved[0], saved[1], (long)ctx.get_data("rows")))
        {
            using var inner = NewDisposeScope();
            var leaf = states.detach().requires_grad_();
            using (enable_grad())
            {
                autograd.backward([loss(leaf, wanted)], [gradient]);
            }

            _ = result.narrow(0, start, leaf.size(0)).copy_(leaf.grad!);
            start += leaf.size(0);
        }

        return scope.Detach(result);
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
