using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// The recurrence of Mamba-2 (Dao and Gu, 2024): a state of each head decays by exp(Δ A) and takes in Δ x Bᵀ with each token; its product with C,
/// and x times D, are the output, which is gated and normalised. Within chunks of tokens it is computed as attention with decaying scores, from
/// chunk to chunk as a recurrence.
/// </summary>
/// <param name="settings">Settings of the mixer.</param>
internal sealed class Mamba2Scan(Mamba2Settings settings) : SpanScan, IDisposable
{
    /// <summary>Number of tokens of a chunk.</summary>
    internal int ChunkTokens { get; init; } = 64;

    /// <summary>Number of tokens of a span; null for as many as fit into memory.</summary>
    internal long? Tokens { get; init; }

    // Scores of a span: as many as stay in a CPU's cache, or as a GPU has memory to spare for.
    private const long CpuScores = 1 << 18;
    private const long GpuScores = 1 << 27;

    /// <summary>What a span's backward needs for gate and norm: some float32 tensors as large as its output.</summary>
    /// <remarks>And the states at the start of each chunk, by the kernel.</remarks>
    internal TokenMemory Working
    {
        get
        {
            var bytes = sizeof(float) * ((7L * settings.Inner) + (settings.Inner * settings.StateSize.Size / StateSpaceKernel.Chunk));
            return new(0, Limited: bytes, Limit: bytes * SpanTokensOf(1, CpuScores));
        }
    }

    /// <summary>Elements per token of the states before the spans, which are the shorter the more rows there are.</summary>
    /// <param name="rows">Number of rows.</param>
    internal long KeptStates(long rows) => settings.Inner * settings.StateSize.Size / SpanTokensOf(rows, CpuScores);

    private readonly (Scalar Min, Scalar? Max) _limits = (settings.Limits.Min, double.IsInfinity(settings.Limits.Max) ? null : (Scalar)settings.Limits.Max);
    private readonly Scalar _never = double.NegativeInfinity;
    private readonly Scalar? _epsilon = settings.Norm is null ? null : (Scalar)settings.Norm.Epsilon;

    /// <inheritdoc/>
    public void Dispose()
    {
        _limits.Min.Dispose();
        _limits.Max?.Dispose();
        _never.Dispose();
        _epsilon?.Dispose();
    }

    protected override long SpanTokens(IReadOnlyList<Tensor> inputs)
    {
        var most = inputs[0].device.type == DeviceType.CPU ? CpuScores : GpuScores;
        return Tokens ?? SpanTokensOf(inputs[0].size(0), most);
    }

    private long SpanTokensOf(long rows, long most) => Math.Max(1, most / (rows * settings.Heads * ChunkTokens * ChunkTokens)) * ChunkTokens;

    // Inputs: gate; x, B and C; Δ. Weights: A_log, dt_bias, D and that of the norm.
    protected override (Tensor Output, Tensor State) Span(IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor?> weights, SpanDocuments? documents, Tensor? state)
    {
        var given = inputs[0].dtype;
        var wide = given is ScalarType.BFloat16 or ScalarType.Float16 ? float32 : given;
        var (batch, tokens) = (inputs[0].size(0), inputs[0].size(1));
        var groups = (long)settings.Groups * settings.StateSize.Size;
        var step = nn.functional.softplus(inputs[2].to(wide).add(weights[1]!.to(wide), Scalars.One)).clamp(_limits.Min, _limits.Max);
        var decay = weights[0]!.to(wide).exp().neg();
        var skip = weights[2]!.to(wide);
        var fused = new StateSpaceProblem(
            inputs[1].contiguous(), step.contiguous(), decay, skip, documents?.Continues.to(float32), state,
            new StateSpaceSizes(settings.Heads, settings.Groups, settings.HeadDimension, settings.StateSize.Size));
        if (fused.IsServed)
        {
            var (all, after) = FusedStateSpace.Of(fused);
            return (Gated(all.view(batch, tokens, settings.Inner), inputs[0].to(wide), weights[3]?.to(wide)).to(given), after);
        }

        var parts = inputs[1].to(wide).split([settings.Inner, groups, groups], -1);
        var x = parts[0].reshape(batch, tokens, settings.Heads, settings.HeadDimension);
        Tensor OfGroups(Tensor part) => part.reshape(batch, tokens, settings.Groups, settings.StateSize.Size);
        var (output, last) = Scan(x, step, decay, OfGroups(parts[1]), OfGroups(parts[2]), documents, state);
        output = output.addcmul_(x, skip.unsqueeze(-1), Scalars.One).reshape(batch, tokens, settings.Inner);
        return (Gated(output, inputs[0].to(wide), weights[3]?.to(wide)).to(given), last);
    }

    private Tensor Gated(Tensor output, Tensor gate, Tensor? weight)
    {
        var open = nn.functional.silu(gate);
        if (settings.Norm is not { } norm)
        {
            return output.mul(open);
        }

        var states = norm.GateFirst ? output.mul(open) : output;
        var groups = states.reshape(states.size(0), states.size(1), norm.Groups, -1);
        var inverse = groups.mul(groups).mean([-1], keepdim: true).add(_epsilon!, Scalars.One).rsqrt();
        states = groups.mul(inverse).reshape(states.shape).mul(weight!);
        return norm.GateFirst ? states : states.mul(open);
    }

    // x [batch, tokens, heads, head dimension], step [batch, tokens, heads], decay [heads], B and C [batch, tokens, groups, state size]; the
    // state is [batch, groups, state size, heads of a group x head dimension].
    private (Tensor Output, Tensor State) Scan(Tensor x, Tensor step, Tensor decay, Tensor keys, Tensor queries, SpanDocuments? documents, Tensor? state)
    {
        var (batch, tokens) = (x.size(0), x.size(1));
        var (heads, width, groups) = (settings.Heads, settings.HeadDimension, settings.Groups);
        var own = heads / groups;
        var length = Math.Min(ChunkTokens, tokens);
        var chunks = (tokens + length - 1) / length;
        Tensor Chunks(Tensor states) => Padded(states, (chunks * length) - tokens).reshape([batch, chunks, length, .. states.shape[2..]]);
        var seen = new ChunkDocuments(documents, batch, chunks, length, x.device);

        // The logarithms of decays, summed from each token (row) to each later one (column); what a token takes in decays in the ones after it.
        var logarithms = Chunks(step.mul(decay)).transpose(2, 3).contiguous();
        var decays = logarithms.unsqueeze(-2).mul(seen.Later.to(x.dtype)).cumsum(-1).masked_fill_(seen.Hidden, _never).exp_();
        var taken = Chunks(x.mul(step.unsqueeze(-1)));
        keys = Chunks(keys).transpose(2, 3);
        queries = Chunks(queries).transpose(2, 3);
        var scores = keys.matmul(queries.transpose(-1, -2)).unsqueeze(3).mul(decays.view(batch, chunks, groups, own, length, length)).reshape(batch, chunks, heads, length, length);
        var output = scores.transpose(-1, -2).matmul(taken.transpose(2, 3)).transpose(2, 3);

        // What is left of a chunk at its end.
        var left = taken.mul(decays.select(-1, length - 1).transpose(2, 3).unsqueeze(-1));
        var ends = keys.transpose(-1, -2).matmul(OfGroups(left));
        var sums = logarithms.cumsum(-1);
        var (starts, last) = Carried(ends, seen.OfChunks(sums.select(-1, length - 1).exp()), state);
        if (starts is not null)
        {
            // What is left at each token of the state before its chunk.
            var reached = queries.matmul(starts).view(batch, chunks, groups, length, own, width).transpose(2, 3).reshape(batch, chunks, length, heads, width);
            output = reached.mul(seen.OfTokens(sums.exp()).transpose(2, 3).unsqueeze(-1)).add_(output, Scalars.One);
        }

        return (output.reshape(batch, chunks * length, heads, width).narrow(1, 0, tokens), last);

        Tensor OfGroups(Tensor states) => states.reshape(batch, chunks, length, groups, own * width).transpose(2, 3);

        (Tensor? Starts, Tensor Last) Carried(Tensor ends, Tensor shares, Tensor? state)
        {
            if (chunks == 1 && state is null)
            {
                return (null, ends.select(1, 0));
            }

            shares = shares.reshape(batch, chunks, groups, 1, own, 1).expand(-1, -1, -1, -1, -1, width).reshape(batch, chunks, groups, 1, own * width);
            var states = new List<Tensor> { state ?? ends.select(1, 0).zeros_like() };
            for (var i = 0; i < chunks; i++)
            {
                states.Add(ends.select(1, i).addcmul(shares.select(1, i), states[^1], Scalars.One));
            }

            return (stack(states.SkipLast(1), 1), states[^1]);
        }
    }

    // Tokens that change nothing.
    private static Tensor Padded(Tensor states, long tokens) =>
        tokens == 0 ? states : cat([states, zeros([states.size(0), tokens, .. states.shape[2..]], states.dtype, states.device)], 1);

    /// <summary>Which tokens of chunks are of one document.</summary>
    private sealed class ChunkDocuments
    {
        private readonly Tensor? _own;
        private readonly Tensor? _before;

        internal ChunkDocuments(SpanDocuments? documents, long batch, long chunks, long length, Device device)
        {
            var all = ones([length, length], @bool, device);
            Later = all.triu(1);
            Hidden = all.tril(-1);
            if (documents is null)
            {
                return;
            }

            var (own, tokens) = (documents.Own, documents.Own.size(1));
            var missing = (chunks * length) - tokens;
            own = missing == 0 ? own : cat([own, own.narrow(1, tokens - 1, 1).expand(-1, missing)], 1);
            _own = own.reshape(batch, chunks, length);
            _before = cat([documents.Before, _own.select(2, length - 1).narrow(1, 0, chunks - 1)], 1);
            Hidden = _own.unsqueeze(2).ne(_own.unsqueeze(3)).logical_or(Hidden).unsqueeze(2);
        }

        /// <summary>Whether a token (column) comes after another (row).</summary>
        internal Tensor Later { get; }

        /// <summary>Whether a token (column) does not see another (row): [.., length, length].</summary>
        internal Tensor Hidden { get; }

        /// <summary>The factor by which the state before a chunk has decayed at each of its tokens, [batch, chunks, heads, length].</summary>
        internal Tensor OfTokens(Tensor shares) => _own is null ? shares : shares.mul(_own.eq(_before!.unsqueeze(-1)).unsqueeze(2));

        /// <summary>The factor by which the state before a chunk has decayed at its end, [batch, chunks, heads].</summary>
        internal Tensor OfChunks(Tensor shares) => _own is null ? shares : shares.mul(_own.select(2, _own.size(2) - 1).eq(_before!).unsqueeze(-1));
    }
}
