using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// The recurrence of Mamba-2 (Dao and Gu, 2024) in chunks: within a chunk as attention with decaying scores, from chunk to chunk by the states. A
/// thread computes some heads of a group chunk by chunk, so that the products of B and C are computed once for all of them, and chunks and states
/// stay in its caches. Backward computes everything but the states at the start of each chunk again.
/// </summary>
internal static unsafe class StateSpaceKernel
{
    /// <summary>Tokens of a chunk.</summary>
    internal const int Chunk = 64;

    /// <summary>The output, [batch, tokens, heads, width], the states after the last token, and those at the start of each chunk if they are wanted.</summary>
    internal static (Tensor Output, Tensor Last, Tensor? Starts) Forward(StateSpaceProblem problem, bool wantsStarts)
    {
        var sizes = problem.Sizes;
        var output = empty([problem.Batch, problem.Tokens, sizes.Heads, sizes.Width], float32);
        var last = problem.State?.clone() ?? zeros([problem.Batch, sizes.Heads, sizes.Size, sizes.Width], float32);
        var starts = wantsStarts ? empty([problem.Batch, sizes.Heads, problem.Chunks, sizes.Size, sizes.Width], float32) : null;
        using (NewDisposeScope())
        {
            var memory = new StateSpaceMemory(problem, Parts(problem), output, last, starts);
            Run(memory, static lane => lane.Forward(), static lane => lane.Forward());
        }

        GC.KeepAlive((problem, output, last, starts));
        return (output, last, starts);
    }

    /// <summary>The gradients, in the caller's dispose scope.</summary>
    /// <param name="problem">The inputs.</param>
    /// <param name="starts">The states at the start of each chunk.</param>
    /// <param name="output">Gradient of the output.</param>
    /// <param name="last">Gradient of the states after the last token; null for zeros.</param>
    internal static StateSpaceGradients Backward(StateSpaceProblem problem, Tensor starts, Tensor output, Tensor? last)
    {
        var sizes = problem.Sizes;
        var inputs = empty_like(problem.Inputs);
        var step = empty_like(problem.Step);
        var state = last?.clone() ?? zeros([problem.Batch, sizes.Heads, sizes.Size, sizes.Width], float32);
        using var scope = NewDisposeScope();
        var parts = Parts(problem);
        var (rates, skip) = (zeros([problem.Batch, sizes.Heads], float32), zeros([problem.Batch, sizes.Heads], float32));
        var ofGroups = empty([2, parts, problem.Batch, sizes.Groups, problem.Tokens, sizes.Size], float32);
        Run(
            new StateSpaceMemory(problem, parts, output, state, starts) { Gradients = new StateSpaceTargets(problem.OfHeads(inputs), step, (rates, skip), ofGroups) },
            static lane => lane.Backward(), static lane => lane.Backward());
        var sums = ofGroups.sum([1]);
        _ = problem.Keys(inputs).copy_(sums.select(0, 0));
        _ = problem.Queries(inputs).copy_(sums.select(0, 1));
        GC.KeepAlive((problem, starts, output));
        return new StateSpaceGradients(inputs, step, rates.sum([0]).MoveToOuterDisposeScope(), skip.sum([0]).MoveToOuterDisposeScope(), state);
    }

    // Into how many parts the heads of a group are split.
    private static long Parts(StateSpaceProblem problem)
    {
        var groups = problem.Batch * problem.Sizes.Groups;
        return Math.Clamp((get_num_threads() + groups - 1) / groups, 1, problem.Sizes.Heads / problem.Sizes.Groups);
    }

    private static void Run(StateSpaceMemory memory, Action<StateSpaceLane<Vectors512, Vector512<float>>> wide, Action<StateSpaceLane<Vectors256, Vector256<float>>> narrow) =>
        CpuKernel.RunParts((int)(memory.Problem.Batch * memory.Sizes.Groups * memory.Parts), task =>
        {
            if (CpuKernel.IsWide)
            {
                using var lane = new StateSpaceLane<Vectors512, Vector512<float>>(memory, task);
                wide(lane);
            }
            else
            {
                using var lane = new StateSpaceLane<Vectors256, Vector256<float>>(memory, task);
                narrow(lane);
            }
        });
}

/// <summary>Addresses of the tensors of a <see cref="StateSpaceProblem"/> and of its results.</summary>
/// <param name="problem">The inputs.</param>
/// <param name="parts">Into how many parts the heads of a group are split.</param>
/// <param name="output">The output or its gradient, [batch, tokens, heads, width].</param>
/// <param name="states">The states, which become those behind the last token; in backward their gradient, which becomes that before the first.</param>
/// <param name="starts">The states at the start of each chunk; null if they are not wanted.</param>
internal sealed unsafe class StateSpaceMemory(StateSpaceProblem problem, long parts, Tensor output, Tensor states, Tensor? starts)
{
    internal StateSpaceProblem Problem => problem;

    internal StateSpaceSizes Sizes => problem.Sizes;

    internal long Tokens { get; } = problem.Tokens;

    internal long Chunks { get; } = problem.Chunks;

    internal long Parts => parts;

    internal bool HasState { get; } = problem.State is not null;

    internal HeadStates X { get; } = new(problem.OfHeads(problem.Inputs));

    internal HeadStates Keys { get; } = new(problem.Keys(problem.Inputs));

    internal HeadStates Queries { get; } = new(problem.Queries(problem.Inputs));

    internal HeadStates Output { get; } = new(output.transpose(1, 2));

    internal float* Step { get; } = (float*)CpuKernel.Pointer(problem.Step);

    internal float* Rates { get; } = (float*)CpuKernel.Pointer(problem.Rates);

    internal float* Skip { get; } = (float*)CpuKernel.Pointer(problem.Skip);

    internal float* Continues { get; } = problem.Continues is { } continues ? (float*)CpuKernel.Pointer(continues) : null;

    internal float* States { get; } = (float*)CpuKernel.Pointer(states);

    internal float* Starts { get; } = starts is null ? null : (float*)CpuKernel.Pointer(starts);

    /// <summary>What backward writes.</summary>
    internal StateSpaceTargets? Gradients { get; init; }
}

/// <summary>Addresses of what backward writes.</summary>
internal sealed unsafe class StateSpaceTargets
{
    /// <param name="x">Gradient of x, [batch, heads, tokens, width].</param>
    /// <param name="step">Gradient of the time steps.</param>
    /// <param name="perRow">Gradients of the rates and of the skipped share for each row of the batch, with zeros.</param>
    /// <param name="ofGroups">Gradients of B and C by the part of the heads, [2, parts, batch, groups, tokens, size].</param>
    internal StateSpaceTargets(Tensor x, Tensor step, (Tensor Rates, Tensor Skip) perRow, Tensor ofGroups)
    {
        X = new HeadStates(x);
        Step = (float*)CpuKernel.Pointer(step);
        Rates = (float*)CpuKernel.Pointer(perRow.Rates);
        Skip = (float*)CpuKernel.Pointer(perRow.Skip);
        OfGroups = (float*)CpuKernel.Pointer(ofGroups);
        Numbers = ofGroups.numel() / 2;
    }

    internal HeadStates X { get; }

    internal float* Step { get; }

    internal float* Rates { get; }

    internal float* Skip { get; }

    internal float* OfGroups { get; }

    /// <summary>Numbers of the gradient of B, which that of C follows.</summary>
    internal long Numbers { get; }
}
