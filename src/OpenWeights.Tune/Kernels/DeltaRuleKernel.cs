using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// The gated delta rule (Yang et al., 2024) in chunks, one value head of one row of the batch at a time, each on one thread: the chunk and the matrix
/// of the head stay in its caches. Backward computes everything but the matrices at the start of each chunk again.
/// </summary>
internal static unsafe class DeltaRuleKernel
{
    /// <summary>Tokens of a chunk.</summary>
    internal const int Chunk = 64;

    /// <summary>What the tokens read, [batch, tokens, heads, value width], the matrices behind the last token, and those at the start of each chunk if they are wanted.</summary>
    internal static (Tensor Output, Tensor Last, Tensor? Starts) Forward(DeltaRuleProblem problem, bool wantsStarts)
    {
        var output = empty_like(problem.Value);
        var last = problem.State?.clone() ?? zeros([problem.Batch, problem.Heads, problem.KeyWidth, problem.ValueWidth], float32);
        var starts = wantsStarts ? empty([problem.Batch, problem.Heads, problem.Chunks, problem.KeyWidth, problem.ValueWidth], float32) : null;
        using (NewDisposeScope())
        {
            Run(new DeltaRuleMemory(problem, output, last, starts), static lane => lane.Forward(), static lane => lane.Forward());
        }

        GC.KeepAlive((problem, output, last, starts));
        return (output, last, starts);
    }

    /// <summary>The gradients of queries, keys, values, decays, betas and the matrices before the first token, in the caller's dispose scope.</summary>
    /// <param name="problem">The inputs.</param>
    /// <param name="starts">The matrices at the start of each chunk.</param>
    /// <param name="output">Gradient of what the tokens read.</param>
    internal static IReadOnlyList<Tensor> Backward(DeltaRuleProblem problem, Tensor starts, Tensor output)
    {
        using var scope = NewDisposeScope();
        var state = zeros([problem.Batch, problem.Heads, problem.KeyWidth, problem.ValueWidth], float32);
        var (query, key) = (empty([problem.Batch, problem.Tokens, problem.Heads, problem.KeyWidth], float32), empty([problem.Batch, problem.Tokens, problem.Heads, problem.KeyWidth], float32));
        var (value, decay, beta) = (empty_like(problem.Value), empty_like(problem.Decay), empty_like(problem.Beta));
        Run(
            new DeltaRuleMemory(problem, output, state, starts) { Gradients = new DeltaRuleTargets(query, key, value, decay, beta) },
            static lane => lane.Backward(), static lane => lane.Backward());
        GC.KeepAlive((problem, starts, output));

        // Value heads that share a key head.
        Tensor Shared(Tensor states) => problem.Heads == problem.KeyHeads ? states : states.view(problem.Batch, problem.Tokens, problem.KeyHeads, -1, problem.KeyWidth).sum(3);
        Tensor[] found = [Shared(query), Shared(key), value, decay, beta, state];
        return Array.ConvertAll(found, static t => t.MoveToOuterDisposeScope());
    }

    private static void Run(DeltaRuleMemory memory, Action<DeltaRuleLane<Vectors512, Vector512<float>>> wide, Action<DeltaRuleLane<Vectors256, Vector256<float>>> narrow) =>
        CpuKernel.Run(memory.Problem.Batch * memory.Problem.Heads, memory.Problem.Tokens * (memory.Problem.KeyWidth + memory.Problem.ValueWidth) * Chunk, (first, end) =>
        {
            if (CpuKernel.IsWide)
            {
                using var lane = new DeltaRuleLane<Vectors512, Vector512<float>>(memory);
                for (; first < end; first++)
                {
                    lane.Begin(first);
                    wide(lane);
                }
            }
            else
            {
                using var lane = new DeltaRuleLane<Vectors256, Vector256<float>>(memory);
                for (; first < end; first++)
                {
                    lane.Begin(first);
                    narrow(lane);
                }
            }
        });
}

/// <summary>The inputs of <see cref="DeltaRuleKernel"/>, all float32 and contiguous.</summary>
/// <param name="Query">Queries, [batch, tokens, key heads, key width].</param>
/// <param name="Key">Keys, of the same shape.</param>
/// <param name="Value">Values, [batch, tokens, heads, value width].</param>
/// <param name="Decay">Logarithms of the decays, [batch, tokens, heads, 1 or key width].</param>
/// <param name="Beta">Betas, [batch, tokens, heads, 1].</param>
/// <param name="Continues">Not 0 where a token is of the same document as the one before it, [batch, tokens]; null for all.</param>
/// <param name="State">The matrices before the first token, [batch, heads, key width, value width]; null for zeros.</param>
internal sealed record DeltaRuleProblem(Tensor Query, Tensor Key, Tensor Value, Tensor Decay, Tensor Beta, Tensor? Continues, Tensor? State)
{
    internal long Batch => Value.size(0);

    internal long Tokens => Value.size(1);

    internal long Heads => Value.size(2);

    internal long KeyHeads => Key.size(2);

    internal long KeyWidth => Key.size(3);

    internal long ValueWidth => Value.size(3);

    internal bool IsPerChannel => Decay.size(3) > 1;

    internal long Chunks => (Tokens + DeltaRuleKernel.Chunk - 1) / DeltaRuleKernel.Chunk;

    /// <summary>Whether the kernel supports the inputs.</summary>
    internal bool IsServed => Array.TrueForAll([Query, Key, Value, Decay, Beta, State ?? Value], static t => CpuKernel.Serves(t) && t.dtype == ScalarType.Float32);
}

/// <summary>Addresses of the tensors of a <see cref="DeltaRuleProblem"/> and of its results.</summary>
/// <param name="problem">The inputs.</param>
/// <param name="output">What the tokens read, or its gradient.</param>
/// <param name="states">The matrices, which become those behind the last token; in backward their gradient.</param>
/// <param name="starts">The matrices at the start of each chunk; null if they are not wanted.</param>
internal sealed unsafe class DeltaRuleMemory(DeltaRuleProblem problem, Tensor output, Tensor states, Tensor? starts)
{
    internal DeltaRuleProblem Problem => problem;

    internal bool HasState { get; } = problem.State is not null;

    internal HeadStates Query { get; } = new(problem.Query.transpose(1, 2));

    internal HeadStates Key { get; } = new(problem.Key.transpose(1, 2));

    internal HeadStates Value { get; } = new(problem.Value.transpose(1, 2));

    internal HeadStates Decay { get; } = new(problem.Decay.transpose(1, 2));

    internal HeadStates Output { get; } = new(output.transpose(1, 2));

    internal float* Beta { get; } = (float*)CpuKernel.Pointer(problem.Beta);

    internal float* Continues { get; } = problem.Continues is { } continues ? (float*)CpuKernel.Pointer(continues) : null;

    internal float* States { get; } = (float*)CpuKernel.Pointer(states);

    internal float* Starts { get; } = starts is null ? null : (float*)CpuKernel.Pointer(starts);

    /// <summary>What backward writes.</summary>
    internal DeltaRuleTargets? Gradients { get; init; }
}

/// <summary>Addresses of what backward writes.</summary>
/// <param name="query">Gradient of the queries of each value head, [batch, tokens, heads, key width].</param>
/// <param name="key">The same of the keys.</param>
/// <param name="value">Gradient of the values.</param>
/// <param name="decay">Gradient of the decays' logarithms.</param>
/// <param name="beta">Gradient of the betas.</param>
internal sealed unsafe class DeltaRuleTargets(Tensor query, Tensor key, Tensor value, Tensor decay, Tensor beta)
{
    internal HeadStates Query { get; } = new(query.transpose(1, 2));

    internal HeadStates Key { get; } = new(key.transpose(1, 2));

    internal HeadStates Value { get; } = new(value.transpose(1, 2));

    internal HeadStates Decay { get; } = new(decay.transpose(1, 2));

    internal float* Beta { get; } = (float*)CpuKernel.Pointer(beta);
}
