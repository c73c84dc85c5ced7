using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// The part of the delta rule that is computed chunk by chunk: the matrix S before each chunk, and what the chunk adds to it. With U the addition to
/// a matrix of zeros and W S the part of S that is replaced, it adds V = U - W S, and the matrix before the next chunk is d S + Kᵀ V.
/// </summary>
internal sealed class DeltaScan : CustomFunction<DeltaScan>
{
    /// <summary>Scans the chunks.</summary>
    /// <param name="own">U, [chunks, batch, heads, tokens, value width].</param>
    /// <param name="taken">W, [chunks, batch, heads, tokens, key width].</param>
    /// <param name="keys">K, decayed to the end of the chunk, of the shape of W.</param>
    /// <param name="decay">d, [chunks, batch, heads, 1 or key width, 1].</param>
    /// <param name="start">The first chunk's matrices, [batch, heads, key width, value width]; null for zeros.</param>
    /// <returns>V; the matrices S before each chunk, null if all are zeros; and those after the last chunk, null if gradients are wanted.</returns>
    internal static (Tensor Added, Tensor? Matrices, Tensor? End) Of(Tensor own, Tensor taken, Tensor keys, Tensor decay, Tensor? start)
    {
        using var scope = NewDisposeScope();
        var isZero = start is null && own.size(0) == 1;
        if (is_grad_enabled() && new[] { own, taken, keys, decay }.Any(static t => t.requires_grad))
        {
            if (isZero)
            {
                return (own.alias().MoveToOuterDisposeScope(), null, null);
            }

            var outputs = Record(own, taken, keys, decay, start);
            return (outputs[0].MoveToOuterDisposeScope(), outputs[1].MoveToOuterDisposeScope(), null);
        }

        var (added, matrices, end) = Scan(own, taken, keys, decay, start);
        return (added.MoveToOuterDisposeScope(), isZero ? null : matrices.MoveToOuterDisposeScope(), end.MoveToOuterDisposeScope());
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (own, taken, keys, decay) = ((Tensor)inputs[0], (Tensor)inputs[1], (Tensor)inputs[2], (Tensor)inputs[3]);
        var (added, matrices, _) = Scan(own, taken, keys, decay, (Tensor?)inputs[4]);

        // Aliases: an output that the function itself saves would keep the graph alive, which keeps the output.
        context.save_for_backward([taken, keys, decay, added.alias(), matrices.alias()]);
        context.save_data("wants start", inputs[4] is Tensor { requires_grad: true });
        return [added, matrices];
    }

    // Backwards through the chunks: first the gradients of V and of S, then all others at once.
    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var saved = context.get_saved_variables();
        var (taken, keys, decay, added, matrices) = (saved[0], saved[1], saved[2], saved[3], saved[4]);
        var chunks = (int)taken.size(0);
        var (ofAdded, ofNext) = (new Tensor[chunks], new Tensor[chunks]);
        var next = matrices[0].zeros_like();
        for (var i = chunks - 1; i >= 0; i--)
        {
            ofNext[i] = next;
            ofAdded[i] = gradients[0][i].Plus(keys[i].matmul(next));
            next = gradients[1][i].Plus(decay[i].mul(next)).sub(taken[i].transpose(-1, -2).matmul(ofAdded[i]));
        }

        var (own, later) = (stack(ofAdded), stack(ofNext));
        var ofDecay = matrices.mul(later).sum([-1], keepdim: true);
        return
        [
            own, own.matmul(matrices.transpose(-1, -2)).neg_(), added.matmul(later.transpose(-1, -2)),
            decay.size(-2) == 1 ? ofDecay.sum([-2], keepdim: true) : ofDecay, (bool)context.get_data("wants start") ? next : null,
        ];
    }

    private static (Tensor Added, Tensor Matrices, Tensor End) Scan(Tensor own, Tensor taken, Tensor keys, Tensor decay, Tensor? start)
    {
        using var nothing = no_grad();
        var chunks = (int)own.size(0);
        var (added, matrices) = (new Tensor[chunks], new Tensor[chunks]);
        var matrix = start ?? zeros([own.size(1), own.size(2), keys.size(-1), own.size(-1)], own.dtype, own.device);
        for (var i = 0; i < chunks; i++)
        {
            matrices[i] = matrix;
            added[i] = i == 0 && start is null ? own[i] : own[i].sub(taken[i].matmul(matrix));
            var sum = keys[i].transpose(-1, -2).matmul(added[i]);
            matrix = i == 0 && start is null ? sum : sum.PlusInPlace(decay[i].mul(matrix));
        }

        return (stack(added), stack(matrices), matrix);
    }
}
