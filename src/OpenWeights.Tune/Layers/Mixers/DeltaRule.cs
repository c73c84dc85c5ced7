using System.Numerics;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// The gated delta rule (Yang et al., 2024): each head has a matrix, from keys to values, that a token first multiplies by its decay, then
/// corrects, so that its key gives more of its value, and then reads with its query. The decay is a number of each head (Gated DeltaNet) or of
/// each channel of its keys (Kimi Delta Attention; Moonshot AI, 2025). Tokens are computed a chunk at a time: what those of a chunk do to each
/// other is a triangular system, and only the matrices at the borders of chunks are computed one after the other. All is float32.
/// </summary>
internal static class DeltaRule
{
    /// <summary>The most tokens of a chunk.</summary>
    internal const int LongestChunk = 64;

    /// <summary>Runs the rule over tokens.</summary>
    /// <param name="inputs">What the tokens give.</param>
    /// <param name="documents">Document of each token, [batch, tokens], int64, at which the matrices restart; null for none.</param>
    /// <param name="start">The matrices before the first token, [batch, value heads, key width, value width]; null for zeros.</param>
    /// <returns>What the tokens read, [batch, tokens, value heads, value width], and the matrices behind the last token, null where gradients are wanted.</returns>
    internal static (Tensor Output, Tensor? End) Run(DeltaInputs inputs, Tensor? documents, Tensor? start)
    {
        using var scope = NewDisposeScope();
        var fused = new DeltaRuleProblem(
            inputs.Query.contiguous(), inputs.Key.contiguous(), inputs.Value.contiguous(), inputs.Decay.contiguous(), inputs.Beta.contiguous(),
            documents is null ? null : new SpanDocuments(documents, documents.narrow(1, 0, 1)).Continues.to(float32), start?.contiguous());
        if (fused.IsServed)
        {
            var (read, after) = FusedDeltaRule.Of(fused);
            return (read.MoveToOuterDisposeScope(), after?.MoveToOuterDisposeScope());
        }

        var (output, end) = inputs.Query.size(1) == 1 && start is not null ? Step(inputs, start) : new Chunks(inputs, documents).Run(start);
        return (output.MoveToOuterDisposeScope(), end?.MoveToOuterDisposeScope());
    }

    // One token: the definition.
    private static (Tensor Output, Tensor? End) Step(DeltaInputs inputs, Tensor start)
    {
        var (query, key) = (inputs.ByValueHead(inputs.Query).transpose(1, 2), inputs.ByValueHead(inputs.Key).transpose(1, 2));
        var decayed = start.mul(inputs.Decay.transpose(1, 2).exp().transpose(2, 3));
        var missing = inputs.Value.transpose(1, 2).sub(key.matmul(decayed)).mul(inputs.Beta.transpose(1, 2));
        var end = decayed.Plus(key.transpose(2, 3).mul(missing));
        return (query.matmul(end).transpose(1, 2), end);
    }

    /// <summary>Tokens cut into chunks: [chunks, batch, heads, tokens of a chunk, width].</summary>
    private sealed class Chunks
    {
        private readonly DeltaInputs _inputs;
        private readonly long _tokens;
        private readonly long _size;
        private readonly long _count;
        private readonly Tensor? _documents;

        internal Chunks(DeltaInputs inputs, Tensor? documents)
        {
            _inputs = inputs;
            _tokens = inputs.Query.size(1);
            _size = Math.Min(LongestChunk, (long)BitOperations.RoundUpToPowerOf2((ulong)_tokens));
            _count = (_tokens + _size - 1) / _size;
            _documents = documents is null ? null : Documents(documents);
        }

        internal (Tensor Output, Tensor? End) Run(Tensor? start)
        {
            var (query, key, value, beta) = (Cut(_inputs.Query), Cut(_inputs.Key), Cut(_inputs.Value), Cut(_inputs.Beta));
            var sum = Cut(_inputs.Decay).cumsum(-2);
            var (keys, queries) = Products(query, key, sum);
            (query, key) = (_inputs.ByValueHead(query), _inputs.ByValueHead(key));

            // What a token adds to the matrix depends on what the tokens before it have added. Both the values that it would add to a matrix of zeros
            // and how much of the chunk's first matrix it takes away come from one triangular system.
            var fromStart = FromStart(sum.exp());
            var given = cat([value.mul(beta), key.mul(beta).mul(fromStart)], -1);
            var solved = linalg.solve_triangular(keys.mul(beta), given, upper: false, left: true, unitriangular: true).split([value.size(-1), key.size(-1)], -1);
            var last = sum.narrow(-2, _size - 1, 1);
            var toEnd = ToEnd(last.sub(sum).exp());
            var (added, matrices, end) = DeltaScan.Of(solved[0], solved[1], key.mul(toEnd), Kept(last.exp()).transpose(-1, -2), start);
            var output = queries.matmul(added);
            if (matrices is not null)
            {
                output = output.Plus(query.mul(fromStart).matmul(matrices));
            }

            return (Join(output), end);
        }

        // Products of keys, and of queries, with the keys of the tokens before and of the token itself, times the decay between the two.
        private (Tensor Keys, Tensor Queries) Products(Tensor query, Tensor key, Tensor sum)
        {
            using Scalar nothing = 0;
            var hidden = Hidden(query.device);
            if (sum.size(-1) > 1)
            {
                var (keys, queries) = DecayedProducts.Of(_inputs.ByValueHead(query), _inputs.ByValueHead(key), sum);
                return _documents is null ? (keys, queries) : (keys.masked_fill(hidden, nothing), queries.masked_fill(hidden, nothing));
            }

            using Scalar never = double.NegativeInfinity;
            var decay = sum.sub(sum.transpose(-1, -2)).masked_fill(hidden, never).exp();
            var columns = key.transpose(-1, -2);
            return (_inputs.ByValueHead(key.matmul(columns)).mul(decay), _inputs.ByValueHead(query.matmul(columns)).mul(decay));
        }

        // Later tokens, and those of other documents.
        private Tensor Hidden(Device device)
        {
            var later = ones([_size, _size], @bool, device).triu(1);
            return _documents is null ? later : _documents.ne(_documents.transpose(-1, -2)).logical_or(later);
        }

        // A factor, 0 for tokens of another document than the last token before the chunk.
        private Tensor FromStart(Tensor factor) => _documents is null ? factor : factor.mul(_documents.eq(Before(_documents)));

        // A factor, 0 for tokens of another document than the chunk's last token.
        private Tensor ToEnd(Tensor factor) => _documents is null ? factor : factor.mul(_documents.eq(_documents.narrow(-2, _size - 1, 1)));

        // A factor, 0 where the chunk's last token is of another document than the last token before it.
        private Tensor Kept(Tensor factor) => _documents is null ? factor : factor.mul(_documents.narrow(-2, _size - 1, 1).eq(Before(_documents)));

        // The document of the last token before each chunk; before the first, the caller answers for it.
        private Tensor Before(Tensor documents) => cat([documents.narrow(0, 0, 1).narrow(-2, 0, 1), documents.narrow(0, 0, _count - 1).narrow(-2, _size - 1, 1)], 0);

        private Tensor Documents(Tensor documents)
        {
            var filled = _count * _size > _tokens ? cat([documents, documents.narrow(1, _tokens - 1, 1).expand(-1, (_count * _size) - _tokens)], 1) : documents;
            return filled.view(-1, _count, _size).transpose(0, 1).unsqueeze(2).unsqueeze(-1);
        }

        // [batch, tokens, heads, width] in chunks, the last filled up with tokens that change nothing.
        private Tensor Cut(Tensor states)
        {
            var (batch, heads, width) = (states.size(0), states.size(2), states.size(3));
            var filled = _count * _size > _tokens ? cat([states, zeros([batch, (_count * _size) - _tokens, heads, width], states.dtype, states.device)], 1) : states;
            return filled.reshape(batch, _count, _size, heads, width).permute(1, 0, 3, 2, 4).contiguous();
        }

        private Tensor Join(Tensor states) => states.permute(1, 0, 3, 2, 4).reshape(states.size(1), _count * _size, states.size(2), states.size(4)).narrow(1, 0, _tokens);
    }
}

/// <summary>What tokens give the delta rule, in float32.</summary>
/// <param name="Query">Queries of length 1 or less, scaled, [batch, tokens, key heads, key width].</param>
/// <param name="Key">Keys of length 1, of the same shape.</param>
/// <param name="Value">Values, [batch, tokens, value heads, value width]; successive value heads share a key head.</param>
/// <param name="Decay">Logarithms of the decays, none above 0, [batch, tokens, value heads, 1 or key width].</param>
/// <param name="Beta">What share of what is missing is added, [batch, tokens, value heads, 1].</param>
internal sealed record DeltaInputs(Tensor Query, Tensor Key, Tensor Value, Tensor Decay, Tensor Beta)
{
    /// <summary>Repeats what key heads have, in the dimension before the last two or, for [batch, tokens, heads, width], before the last, for the value heads that share them.</summary>
    internal Tensor ByValueHead(Tensor states)
    {
        var group = Value.size(2) / Key.size(2);
        return group == 1 ? states : states.repeat_interleave(group, 2);
    }
}
