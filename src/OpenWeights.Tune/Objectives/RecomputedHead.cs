using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// Values of each token that depend on its logits, a few tokens at a time: backward recomputes the logits of each chunk, so that at most one
/// chunk of [tokens, vocabulary] exists. It serves every head: with an adapter, a bias, a soft cap, or in another dtype.
/// </summary>
internal sealed class RecomputedHead : CustomFunction<RecomputedHead>
{
    /// <summary>
    /// The values of each token, float32 tensors of [tokens]. Only the first, or the first few, have a gradient; in backward, gradients are also accumulated in the
    /// leaf tensors of the head.
    /// </summary>
    /// <param name="hidden">Hidden states, [tokens, hidden].</param>
    /// <param name="targets">Target ids, [tokens], int64.</param>
    /// <param name="tokensOfChunk">Number of tokens per chunk.</param>
    /// <param name="values">Computes the values of some tokens; in backward only those with a gradient are used.</param>
    /// <param name="differentiable">Number of values that have a gradient.</param>
    /// <param name="adapted">1 for the tokens to which the head's adapter applies and 0 for others, [tokens, 1]; null for all.</param>
    internal static List<Tensor> Of(Tensor hidden, Tensor targets, long tokensOfChunk, Func<Tensor, Tensor, IReadOnlyList<Tensor>> values, int differentiable = 1, Tensor? adapted = null)
    {
        // Even if everything before the head is frozen, the head's own leaf tensors need gradients.
        var reached = is_grad_enabled() && !hidden.requires_grad ? hidden.detach().requires_grad_() : hidden;
        return Record(reached, targets, tokensOfChunk, values, differentiable, adapted);
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (hidden, targets, count, values, adapted) = ((Tensor)inputs[0], (Tensor)inputs[1], (long)inputs[2], (Func<Tensor, Tensor, IReadOnlyList<Tensor>>)inputs[3], (Tensor?)inputs[5]);
        context.save_for_backward([hidden, targets, adapted!]);
        context.save_data("tokens", count);
        context.save_data("values", values);
        context.save_data("differentiable", inputs[4]);
        context.save_data("random", RandomState.Note(hidden.device));
        var results = new List<Tensor>();
        var start = 0L;
        foreach (var (states, wanted) in Chunks(hidden, targets, count))
        {
            using var inner = NewDisposeScope();
            using var some = AdaptedTokens.Use(adapted?.narrow(0, start, states.size(0)));
            var chunk = values(states, wanted);
            while (results.Count < chunk.Count)
            {
                results.Add(empty([targets.size(0)], float32, hidden.device).MoveToOuterDisposeScope());
            }

            for (var i = 0; i < chunk.Count; i++)
            {
                _ = results[i].narrow(0, start, states.size(0)).copy_(chunk[i]);
            }

            start += states.size(0);
        }

        return results;
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var after = RandomState.BeforeAgain(gradients[0].device);
        ((RandomState)context.get_data("random")).Restore();
        try
        {
            return [HiddenGradient(context, [.. gradients.Take((int)context.get_data("differentiable"))]), null, null, null, null, null];
        }
        finally
        {
            after?.Restore();
        }
    }

    private static Tensor HiddenGradient(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var scope = NewDisposeScope();
        var saved = context.get_saved_variables();
        var values = (Func<Tensor, Tensor, IReadOnlyList<Tensor>>)context.get_data("values");
        var result = saved[0].empty_like();
        var start = 0L;
        foreach (var (states, wanted) in Chunks(saved[0], saved[1], (long)context.get_data("tokens")))
        {
            using var inner = NewDisposeScope();
            var leaf = states.detach().requires_grad_();
            using var some = AdaptedTokens.Use(saved[2]?.narrow(0, start, leaf.size(0)));
            using (enable_grad())
            {
                BackwardPass.Run([.. values(leaf, wanted).Take(gradients.Count)], [.. gradients.Select(g => g.narrow(0, start, leaf.size(0)))]);
            }

            _ = result.narrow(0, start, leaf.size(0)).copy_(leaf.grad!);
            start += leaf.size(0);
        }

        return result.MoveToOuterDisposeScope();
    }

    private static IEnumerable<(Tensor Hidden, Tensor Targets)> Chunks(Tensor hidden, Tensor targets, long tokens)
    {
        for (long start = 0; start < targets.size(0); start += tokens)
        {
            var count = Math.Min(tokens, targets.size(0) - start);
            yield return (hidden.narrow(0, start, count), targets.narrow(0, start, count));
        }
    }
}
