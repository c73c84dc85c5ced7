using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// The recurrence of Mamba (Gu and Dao, 2023): a state of several numbers for each channel decays by exp(Δ A) and takes in Δ x B with each token;
/// its product with C, and x times D, are the output, which is gated. All chunks of a span are computed at once, one position after another,
/// and then the states before them.
/// </summary>
internal sealed class SelectiveScan : SpanScan
{
    // Numbers of a span's states: as many as stay in a CPU's cache, or as a GPU has memory to spare for.
    private const long CpuNumbers = 1 << 20;
    private const long GpuNumbers = 1 << 26;

    /// <summary>Number of tokens of a span; null for as many as fit into memory.</summary>
    internal long? Tokens { get; init; }

    protected override long SpanTokens(IReadOnlyList<Tensor> inputs)
    {
        var most = inputs[0].device.type == DeviceType.CPU ? CpuNumbers : GpuNumbers;
        var perToken = inputs[0].size(0) * inputs[0].size(2) * inputs[3].size(2);
        if (Tokens is null && inputs[0].device.type == DeviceType.CPU && CpuKernel.Enabled && inputs[0].dtype is ScalarType.Float32 or ScalarType.BFloat16)
        {
            return 1024;
        }

        return Tokens ?? Math.Clamp(most / perToken / 16 * 16, 16, 1024);
    }

    // Inputs: gate, x, Δ before softplus, B, C. Weights: A_log, D.
    protected override (Tensor Output, Tensor State) Span(IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor?> weights, SpanDocuments? documents, Tensor? state)
    {
        var given = inputs[0].dtype;
        var wide = given is ScalarType.BFloat16 or ScalarType.Float16 ? float32 : given;
        var x = inputs[1].to(wide);
        var step = nn.functional.softplus(inputs[2].to(wide));
        if (SelectiveScanKernel.Serves(step))
        {
            var continues = documents?.Continues.to(float32);
            var (mixed, after) = FusedSelectiveScan.Of(new SelectiveScanProblem(
                step, x.contiguous(), inputs[3].to(wide).contiguous(), inputs[4].to(wide).contiguous(), weights[0]!.to(wide).exp().neg().t().contiguous(), continues, state?.transpose(1, 2).contiguous()));
            return Gated(mixed, after.transpose(1, 2));
        }

        var decays = step.unsqueeze(-1).mul(weights[0]!.to(wide).exp().neg()).exp_();
        var taken = step.mul(x).unsqueeze(-1).mul(inputs[3].to(wide).unsqueeze(2));
        if (documents is not null)
        {
            decays = decays.mul(documents.Continues.unsqueeze(-1).unsqueeze(-1));
        }

        var (states, last) = Scan(decays, taken, state);
        return Gated(states.matmul(inputs[4].to(wide).unsqueeze(-1)).squeeze(-1), last);

        (Tensor Output, Tensor State) Gated(Tensor output, Tensor last) =>
            (output.addcmul(x, weights[1]!.to(wide), Scalars.One).mul(nn.functional.silu(inputs[0].to(wide))).to(given), last);
    }

    // The states after each token, and the last, from what decays before each token and what it takes in: [batch, tokens, channels, state size].
    private static (Tensor States, Tensor Last) Scan(Tensor decays, Tensor taken, Tensor? state)
    {
        var (batch, tokens) = (decays.size(0), decays.size(1));
        var length = (long)Math.Ceiling(Math.Sqrt(tokens));
        var chunks = (tokens + length - 1) / length;

        // Tokens at the end that change nothing.
        Tensor[] Positions(Tensor states, Scalar padding)
        {
            var missing = (chunks * length) - tokens;
            var all = missing == 0 ? states : cat([states, full([batch, missing, .. states.shape[2..]], padding, states.dtype, states.device)], 1);
            return all.view([batch, chunks, length, .. states.shape[2..]]).unbind(2);
        }

        // Each chunk from a state of zeros, and what is left of another state at each position.
        var (share, own) = (Positions(decays, Scalars.One), Positions(taken, Scalars.Zero));
        for (var i = 1; i < length; i++)
        {
            own[i] = own[i].addcmul(share[i], own[i - 1], Scalars.One);
            share[i] = share[i].mul(share[i - 1]);
        }

        var starts = new List<Tensor> { state ?? own[0].select(1, 0).zeros_like() };
        for (var i = 0; i < chunks; i++)
        {
            starts.Add(own[^1].select(1, i).addcmul(share[^1].select(1, i), starts[^1], Scalars.One));
        }

        var states = stack(own, 2);
        if (chunks > 1 || state is not null)
        {
            states = states.addcmul(stack(share, 2), stack(starts.SkipLast(1), 1).unsqueeze(2), Scalars.One);
        }

        return (states.view([batch, chunks * length, .. decays.shape[2..]]).narrow(1, 0, tokens), starts[^1]);
    }
}
