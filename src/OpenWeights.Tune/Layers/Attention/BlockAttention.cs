using System.Runtime.InteropServices;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>
/// Causal attention, one block of queries at a time. The scores of a block fit into the processor's cache, keys that no query of the
/// block attends to are skipped, key/value heads are not repeated for their query heads, and backward recomputes the scores instead of
/// storing them (as FlashAttention; Dao et al., 2022). Softmax and sums are float32 for every dtype of the model.
/// </summary>
internal sealed class BlockAttention : CustomFunction<BlockAttention>
{
    // Number of queries per block, and maximum number of scores computed at once: 2 MiB.
    private const long BlockQueries = 128;
    private const long BlockScores = 1 << 19;

    /// <summary>Computes attention.</summary>
    /// <param name="query">Queries, [batch, heads, queries, head_dim].</param>
    /// <param name="key">Keys, [batch, key/value heads, keys, head_dim]; the last query is at the position of the last key.</param>
    /// <param name="value">Values, of the same shape as the keys.</param>
    /// <param name="mask">Attention mask, [batch or 1, 1, queries, keys]: true where a query may attend to a key, never a later one; null
    /// for plain causal attention.</param>
    /// <param name="settings">How scores are computed.</param>
    /// <param name="kept">Stores the result, or provides it if it was computed before; null for neither.</param>
    /// <param name="sinks">Attention sink of each query head, [heads]: the score of one more key, whose value is 0; null for none.</param>
    /// <returns>The attention output, [batch, heads, queries, head_dim], a view of [batch, queries, heads, head_dim].</returns>
    internal static Tensor Attend(
        Tensor query, Tensor key, Tensor value, Tensor? mask, BlockAttentionSettings settings, SavedAttention? kept = null, Tensor? sinks = null)
    {
        if (is_grad_enabled() && (query.requires_grad || key.requires_grad || value.requires_grad || sinks?.requires_grad == true))
        {
            return Record(query, key, value, mask, sinks, settings, kept)[0];
        }

        var mixed = Forward(query, key, value, mask, settings, sinks);
        kept?.Note(mixed);
        return mixed;
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (query, key, value, mask) = ((Tensor)inputs[0], (Tensor)inputs[1], (Tensor)inputs[2], (Tensor?)inputs[3]);
        var (sinks, settings, kept) = ((Tensor?)inputs[4], (BlockAttentionSettings)inputs[5], (SavedAttention?)inputs[6]);
        context.save_for_backward([query, key, value, mask!, sinks!]);
        context.save_data("settings", settings);
        return [kept?.Given?.detach() ?? Forward(query, key, value, mask, settings, sinks)];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var (query, key, value, sinks) = InputGradients(context.get_saved_variables(), (BlockAttentionSettings)context.get_data("settings"), gradients[0]);
        return [query, key, value, null, sinks, null, null];
    }

    private static (Tensor Query, Tensor Key, Tensor Value, Tensor? Sinks) InputGradients(List<Tensor> saved, BlockAttentionSettings settings, Tensor gradient)
    {
        if (Problem(saved[0], saved[1], saved[2], saved[3], settings, saved[4]) is { } problem)
        {
            var (query, key, value, sinks) = AttentionKernel.Backward(problem, gradient.to(saved[0].dtype));
            return (query, key, value, sinks is null ? null : tensor(sinks).to(saved[4].dtype));
        }

        using var scope = NewDisposeScope();
        var plan = new Plan(saved[0], saved[1], saved[2], saved[3], settings, saved[4]);
        var gradQuery = empty_like(saved[0]);
        var gradKey = zeros(plan.Key.shape, float32, plan.Key.device);
        var gradValue = gradKey.zeros_like();
        var byHead = plan.Split(gradQuery);
        var given = plan.Split(gradient.to(plan.Key.dtype));
        foreach (var block in plan.Blocks())
        {
            Backward(plan, block, given, (byHead, gradKey, gradValue));
        }

        Tensor Result(Tensor sum, Tensor like) => sum.view(like.shape).to(like.dtype).MoveToOuterDisposeScope();
        return (gradQuery.MoveToOuterDisposeScope(), Result(gradKey, saved[1]), Result(gradValue, saved[2]), plan.GradSinks is null ? null : Result(plan.GradSinks, saved[4]));
    }

    // The inputs of the CPU kernel; null if it does not support them.
    private static AttentionProblem? Problem(Tensor query, Tensor key, Tensor value, Tensor? mask, BlockAttentionSettings settings, Tensor? sinks) =>
        AttentionKernel.Serves(query, key, value, mask)
            ? new AttentionProblem(query, key, value, mask, settings.Scale.ToDouble(), settings.Cap?.ToDouble(), settings.Window, Floats(sinks))
            : null;

    private static float[]? Floats(Tensor? sinks)
    {
        if (sinks is null)
        {
            return null;
        }

        using var values = sinks.detach().to(float32);
        return MemoryMarshal.Cast<byte, float>(values.cpu().contiguous().bytes).ToArray();
    }

    private static Tensor Forward(Tensor query, Tensor key, Tensor value, Tensor? mask, BlockAttentionSettings settings, Tensor? sinks)
    {
        if (Problem(query, key, value, mask, settings, sinks) is { } problem)
        {
            return AttentionKernel.Forward(problem);
        }

        using var scope = NewDisposeScope();
        var plan = new Plan(query, key, value, mask, settings, sinks);
        var mixed = empty([query.size(0), query.size(2), query.size(1), query.size(3)], query.dtype, query.device).transpose(1, 2);
        var byHead = plan.Split(mixed);
        foreach (var block in plan.Blocks())
        {
            using var inner = NewDisposeScope();
            var (weights, _) = Weights(plan, block, plan.Queries(block), keepsLimited: false);
            var part = weights.to(plan.Value.dtype).bmm(block.Of(plan.Value));
            _ = block.Of(byHead).copy_(part.view(block.Batches, block.Heads, plan.Group, block.Count, -1));
        }

        return mixed.MoveToOuterDisposeScope();
    }

    private static void Backward(Plan plan, Block block, Tensor given, (Tensor Query, Tensor Key, Tensor Value) gradients)
    {
        using var inner = NewDisposeScope();
        var queries = plan.Queries(block);
        var (weights, limited) = Weights(plan, block, queries, keepsLimited: true);
        var gradient = block.Of(given).reshape(queries.shape);
        _ = block.Of(gradients.Value).PlusInPlace(weights.to(queries.dtype).transpose(1, 2).bmm(gradient).Widened());

        // Gradient of the softmax: p (dp - sum of p dp); of the soft cap: 1 - tanh².
        var gradScores = gradient.bmm(block.Of(plan.Value).transpose(1, 2)).Widened();
        plan.AddSinkGradient(block, weights, gradScores);
        if (CpuKernel.Serves(gradScores, weights))
        {
            SoftmaxKernel.Backward(weights, gradScores);
        }
        else
        {
            using var weighted = gradScores.mul(weights);
            gradScores = gradScores.sub_(weighted.sum(-1, keepdim: true)).mul_(weights);
        }

        if (limited is not null)
        {
            gradScores = gradScores.mul_(limited.mul_(limited).neg_().add_(Scalars.One, Scalars.One));
        }

        gradScores = gradScores.to(queries.dtype);
        _ = block.Of(gradients.Key).PlusInPlace(gradScores.transpose(1, 2).bmm(queries).Widened());
        var gradQuery = gradScores.bmm(block.Of(plan.Key)).mul_(plan.Settings.Scale);
        _ = block.Of(gradients.Query).copy_(gradQuery.view(block.Batches, block.Heads, plan.Group, block.Count, -1));
    }

    // Attention weights of a block, in float32, [rows, group x queries, keys], and the tanh of the soft cap.
    private static (Tensor Weights, Tensor? Limited) Weights(Plan plan, Block block, Tensor queries, bool keepsLimited)
    {
        var scores = queries.bmm(block.Of(plan.Key).transpose(1, 2)).Widened();
        Tensor? limited = null;
        if (plan.Settings is { InverseCap: { } inverse, Cap: { } cap })
        {
            scores = scores.mul_(inverse).tanh_();
            limited = keepsLimited ? scores.clone() : null;
            scores = scores.mul_(cap);
        }

        var byQuery = scores.view(block.Batches, -1, block.Count, block.Keys);
        if (plan.Hidden is not null)
        {
            _ = byQuery.masked_fill_(block.OfMask(plan.Hidden), plan.Settings.NegativeInfinity);
        }

        if (CpuKernel.Serves(scores))
        {
            if (plan.Sinks is null)
            {
                SoftmaxKernel.Causal(scores, block.Count, plan.Hidden is null ? block.Count - 1 : 0);
                return (scores, limited);
            }
        }

        if (plan.Hidden is null && block.Count > 1)
        {
            _ = byQuery.narrow(3, block.Keys - block.Count, block.Count).masked_fill_(plan.Ahead(block.Count), plan.Settings.NegativeInfinity);
        }

        return (plan.Sinks is null ? scores.softmax(-1) : cat([scores, plan.SinkScores(block)], -1).softmax(-1).narrow(-1, 0, block.Keys), limited);
    }

    /// <summary>Data shared by all blocks of a call. Its tensors are in the dispose scope in which it was created.</summary>
    private sealed class Plan
    {
        private readonly Tensor _query;
        private readonly long _keyValueHeads;
        private Tensor? _ahead;

        internal Plan(Tensor query, Tensor key, Tensor value, Tensor? mask, BlockAttentionSettings settings, Tensor? sinks)
        {
            _keyValueHeads = key.size(1);
            Group = query.size(1) / _keyValueHeads;
            var dtype = ProductPrecision.Of(query, query.size(2));
            _query = Split(query.to(dtype));
            Key = key.reshape(-1, key.size(2), key.size(3)).to(dtype);
            Value = value.reshape(-1, value.size(2), value.size(3)).to(dtype);
            Hidden = mask?.logical_not();
            Settings = settings;
            Sinks = sinks?.detach().Widened().view(_keyValueHeads, Group, 1);
            GradSinks = Sinks?.zeros_like();
        }

        /// <summary>The attention sinks, [key/value heads, group, 1], float32; null for none.</summary>
        internal Tensor? Sinks { get; }

        /// <summary>Sums of their gradients.</summary>
        internal Tensor? GradSinks { get; }

        internal long Group { get; }

        /// <summary>The keys, [batch x key/value heads, keys, head_dim].</summary>
        internal Tensor Key { get; }

        /// <summary>The values, [batch x key/value heads, keys, head_dim].</summary>
        internal Tensor Value { get; }

        /// <summary>True where attention is masked, [batch or 1, 1, queries, keys]; null for plain causal attention.</summary>
        internal Tensor? Hidden { get; }

        internal BlockAttentionSettings Settings { get; }

        /// <summary>Query heads grouped by key/value head: a view, [batch, key/value heads, group, queries, head_dim].</summary>
        internal Tensor Split(Tensor states) => states.unflatten(1, [_keyValueHeads, Group]);

        /// <summary>The scaled queries of a block, [rows, group x queries, head_dim].</summary>
        internal Tensor Queries(Block block) => block.Of(_query).mul(Settings.Scale).reshape(block.Batches * block.Heads, Group * block.Count, -1);

        /// <summary>The sinks' scores for the rows of a block, [rows, group x queries, 1].</summary>
        internal Tensor SinkScores(Block block) =>
            Sinks!.narrow(0, block.Head, block.Heads).unsqueeze(0).expand(block.Batches, -1, -1, block.Count).reshape(block.Batches * block.Heads, Group * block.Count, 1);

        /// <summary>Adds a block's part of the gradient of the sinks: p (dp - sum of p dp), where dp is 0, as a sink has no value.</summary>
        internal void AddSinkGradient(Block block, Tensor weights, Tensor gradWeights)
        {
            if (GradSinks is null)
            {
                return;
            }

            using var scope = NewDisposeScope();
            var sum = weights.mul(gradWeights).sum(-1);
            var gradient = weights.sum(-1).sub_(Scalars.One).mul_(sum).view(block.Batches, block.Heads, Group, block.Count).sum([0, 3]);
            _ = GradSinks.narrow(0, block.Head, block.Heads).PlusInPlace(gradient.unsqueeze(-1));
        }

        /// <summary>True above the diagonal.</summary>
        internal Tensor Ahead(long count)
        {
            if (_ahead is null || _ahead.size(0) != count)
            {
                _ahead = ones([count, count], @bool, Key.device).triu(1);
                _ = CurrentDisposeScope!.MoveToOuter(_ahead);
            }

            return _ahead;
        }

        internal IEnumerable<Block> Blocks()
        {
            var (batch, queries, keys) = (_query.size(0), _query.size(3), Key.size(1));
            for (long start = 0; start < queries; start += BlockQueries)
            {
                var count = Math.Min(BlockQueries, queries - start);
                var end = start + count + keys - queries;
                var first = Settings.Window is { } window ? Math.Max(0, end - count - window + 1) : 0;
                var heads = Math.Max(1, BlockScores / (Group * count * (end - first)));
                var (batches, some) = heads >= _keyValueHeads ? (Math.Min(batch, heads / _keyValueHeads), _keyValueHeads) : (1, heads);
                for (long b = 0; b < batch; b += batches)
                {
                    for (long h = 0; h < _keyValueHeads; h += some)
                    {
                        yield return new Block(b, Math.Min(batches, batch - b), h, Math.Min(some, _keyValueHeads - h), start, count, first, end - first, _keyValueHeads);
                    }
                }
            }
        }
    }

    /// <summary>A block: some queries of some heads of some batch rows, with the keys that they can attend to.</summary>
    private readonly record struct Block(
        long Batch, long Batches, long Head, long Heads, long Start, long Count, long FirstKey, long Keys, long KeyValueHeads)
    {
        /// <summary>The block's part of [batch, key/value heads, group, queries, head_dim], or of [batch x key/value heads, keys, head_dim].</summary>
        internal Tensor Of(Tensor states) => states.ndim == 5
            ? states.narrow(0, Batch, Batches).narrow(1, Head, Heads).narrow(3, Start, Count)
            : states.narrow(0, (Batch * KeyValueHeads) + Head, Batches * Heads).narrow(1, FirstKey, Keys);

        /// <summary>The block's part of a mask.</summary>
        internal Tensor OfMask(Tensor mask) =>
            (mask.size(0) == 1 ? mask : mask.narrow(0, Batch, Batches)).narrow(2, Start, Count).narrow(3, FirstKey, Keys);
    }
}

/// <summary>How attention scores are computed.</summary>
/// <param name="Scale">Scaling factor of the scores.</param>
/// <param name="Cap">Soft cap c in c tanh(score / c), or null.</param>
/// <param name="InverseCap">1 / c, or null.</param>
/// <param name="NegativeInfinity">Score of a masked key, -infinity.</param>
/// <param name="Window">Sliding window: number of keys that a query attends to, including its own position; null for all.</param>
internal sealed record BlockAttentionSettings(Scalar Scale, Scalar? Cap, Scalar? InverseCap, Scalar NegativeInfinity, int? Window);

/// <summary>The attention output of a checkpointed layer, stored in forward so that recomputation can skip attention.</summary>
/// <param name="given">The stored output, [batch, heads, queries, head_dim]; null in forward, before it is stored.</param>
internal sealed class SavedAttention(Tensor? given)
{
    /// <summary>The stored output; null before it is stored.</summary>
    internal Tensor? Given { get; private set; } = given;

    /// <summary>Stores the output beyond the dispose scope of the layer.</summary>
    internal void Note(Tensor mixed) => Given ??= mixed.detach().DetachFromDisposeScope();
}
