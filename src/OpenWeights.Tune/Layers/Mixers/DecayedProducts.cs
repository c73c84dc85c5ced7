using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// Products of queries and keys with the keys of earlier tokens, where each channel decays on its own from one token to the other:
/// Σ a[i] b[j] exp(s[i] - s[j]) over the channels, for j up to i, with s the sums of the logarithms. The exponential is not the product of one of i
/// and one of j alone, which overflow; but with the sum r at the middle of a block, exp(s[i] - r) and exp(r - s[j]) are at most 1 for i after it
/// and j before it. So blocks are halved down to a single token, and each pair of halves is a plain product.
/// </summary>
internal sealed class DecayedProducts : CustomFunction<DecayedProducts>
{
    /// <summary>The products.</summary>
    /// <param name="queries">[..., tokens, width]; the number of tokens is a power of two.</param>
    /// <param name="keys">Of the same shape.</param>
    /// <param name="sums">The sums of the decays' logarithms up to each token, of the same shape.</param>
    /// <returns>[..., tokens, tokens]: those of keys, which are 0 for a token with itself, and those of queries.</returns>
    internal static (Tensor Keys, Tensor Queries) Of(Tensor queries, Tensor keys, Tensor sums)
    {
        if (is_grad_enabled() && (queries.requires_grad || keys.requires_grad || sums.requires_grad))
        {
            var outputs = Record(queries, keys, sums);
            return (outputs[0], outputs[1]);
        }

        return Products(queries, keys, sums);
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        context.save_for_backward([(Tensor)inputs[0], (Tensor)inputs[1], (Tensor)inputs[2]]);
        var (keys, queries) = Products((Tensor)inputs[0], (Tensor)inputs[1], (Tensor)inputs[2]);
        return [keys, queries];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var saved = context.get_saved_variables();
        var (queries, keys, sums) = (saved[0], saved[1], saved[2]);
        var (ofKeys, ofAll) = (gradients[0].contiguous(), gradients[1].contiguous());
        var own = ofAll.diagonal(0, -2, -1).unsqueeze(-1);
        var (ofQueries, ofLater, ofEarlier) = (own.mul(keys), zeros_like(keys), own.mul(queries));
        for (var half = sums.size(-2) / 2; half >= 1; half /= 2)
        {
            using var scope = NewDisposeScope();
            var pair = new Halves(queries, keys, sums, half);
            var given = cat([Block(ofAll, half), Block(ofKeys, half)], -2);
            var later = given.matmul(pair.Earlier);
            _ = Second(ofQueries, half).addcmul_(later.narrow(-2, 0, half), pair.ToLater, Scalars.One);
            _ = Second(ofLater, half).addcmul_(later.narrow(-2, half, half), pair.ToLater, Scalars.One);
            _ = First(ofEarlier, half).addcmul_(given.transpose(-1, -2).matmul(pair.Later), pair.FromEarlier, Scalars.One);
        }

        // A token's sum multiplies all products of it as the later one, and divides those of it as the earlier one.
        var ofSums = queries.mul(ofQueries).PlusInPlace(keys.mul(ofLater.sub(ofEarlier)));
        return [ofQueries, ofLater.Plus(ofEarlier), ofSums];
    }

    private static (Tensor Keys, Tensor Queries) Products(Tensor queries, Tensor keys, Tensor sums)
    {
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        var tokens = sums.size(-2);
        var ofQueries = diag_embed(queries.mul(keys).sum(-1));
        var ofKeys = zeros_like(ofQueries);
        for (var half = tokens / 2; half >= 1; half /= 2)
        {
            using var inner = NewDisposeScope();
            var pair = new Halves(queries, keys, sums, half);
            var product = pair.Later.matmul(pair.Earlier.transpose(-1, -2));
            _ = Block(ofQueries, half).copy_(product.narrow(-2, 0, half));
            _ = Block(ofKeys, half).copy_(product.narrow(-2, half, half));
        }

        return (ofKeys.MoveToOuterDisposeScope(), ofQueries.MoveToOuterDisposeScope());
    }

    // The first half of each block of twice that many tokens, [..., blocks, tokens, width], as a view.
    private static Tensor First(Tensor states, long half) => Halved(states, half).narrow(-2, 0, half);

    private static Tensor Second(Tensor states, long half) => Halved(states, half).narrow(-2, half, half);

    private static Tensor Halved(Tensor states, long half) => states.view([.. states.shape[..^2], states.size(-2) / (2 * half), 2 * half, states.size(-1)]);

    // What the second half of each block has with the first, [..., blocks, tokens, tokens], as a view.
    private static Tensor Block(Tensor products, long half)
    {
        var blocks = products.size(-1) / (2 * half);
        var apart = products.view([.. products.shape[..^2], blocks, 2 * half, blocks, 2 * half]);
        return apart.diagonal(0, -4, -2).movedim([-1], [-3]).narrow(-2, half, half).narrow(-1, 0, half);
    }

    /// <summary>The halves of all blocks of a size, decayed to the border between them.</summary>
    private sealed class Halves
    {
        internal Halves(Tensor queries, Tensor keys, Tensor sums, long half)
        {
            var border = First(sums, half).narrow(-2, half - 1, 1);
            ToLater = Second(sums, half).sub(border).exp_();
            FromEarlier = border.sub(First(sums, half)).exp_();
            Later = cat([Second(queries, half).mul(ToLater), Second(keys, half).mul(ToLater)], -2);
            Earlier = First(keys, half).mul(FromEarlier);
        }

        /// <summary>The decay from the border to the tokens after it, [..., blocks, tokens, width].</summary>
        internal Tensor ToLater { get; }

        /// <summary>The decay from the tokens before the border to it.</summary>
        internal Tensor FromEarlier { get; }

        /// <summary>The queries and then the keys after the border.</summary>
        internal Tensor Later { get; }

        /// <summary>The keys before the border.</summary>
        internal Tensor Earlier { get; }
    }
}
