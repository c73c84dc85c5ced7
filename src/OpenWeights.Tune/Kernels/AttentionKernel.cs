using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Causal attention, one key/value head at a time, each on one thread: the data of a block of queries stays in the caches, and few masked
/// scores are computed. Sums are float32 for every dtype; backward recomputes the scores (as FlashAttention; Dao et
/// al., 2022).
/// </summary>
internal static unsafe class AttentionKernel
{
    // With fewer queries, repacking the keys is not worthwhile.
    private const long MinQueries = 12;

    /// <summary>Whether the kernel supports these inputs.</summary>
    /// <param name="query">Queries, [batch, heads, queries, head_dim].</param>
    /// <param name="key">Keys, [batch, key/value heads, keys, head_dim].</param>
    /// <param name="value">Values, of the same shape as the keys.</param>
    /// <param name="mask">Attention mask, [batch or 1, 1, queries, keys], or null.</param>
    internal static bool Serves(Tensor query, Tensor key, Tensor value, Tensor? mask) =>
        query.size(2) >= MinQueries && AttentionProblem.Serves(query, key, value, mask);

    /// <summary>The attention output, [batch, heads, queries, head_dim], a view of [batch, queries, heads, head_dim].</summary>
    internal static Tensor Forward(AttentionProblem problem)
    {
        var query = problem.Query;
        using var scope = NewDisposeScope();
        var mixed = empty([query.size(0), query.size(2), query.size(1), query.size(3)], query.dtype, query.device).transpose(1, 2);
        var results = new AttentionResults(new HeadStates(mixed), default, default, default);
        _ = Run(problem, results, Parts(problem), backward: false);
        GC.KeepAlive(mixed);
        return mixed.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Gradients of query, key and value, each in the memory layout of its tensor, in the caller's dispose scope; and of the attention sinks.
    /// </summary>
    /// <param name="problem">The inputs of forward.</param>
    /// <param name="gradient">Gradient of the output of <see cref="Forward"/>, with any strides.</param>
    internal static (Tensor Query, Tensor Key, Tensor Value, float[]? Sinks) Backward(AttentionProblem problem, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        var given = HeadStates.Serves(gradient) ? gradient : gradient.contiguous();
        var parts = Parts(problem);
        var query = problem.Query.empty_like();
        var (key, value) = parts == 1 ? (problem.Key.empty_like(), problem.Value.empty_like()) : (PartsOf(problem.Key, parts), PartsOf(problem.Value, parts));
        var sinks = Run(problem, new AttentionResults(new HeadStates(query), new HeadStates(key), new HeadStates(value), new HeadStates(given)), parts, backward: true);
        GC.KeepAlive((given, query, key, value));
        return (query.MoveToOuterDisposeScope(), Whole(key, problem.Key).MoveToOuterDisposeScope(), Whole(value, problem.Value).MoveToOuterDisposeScope(), sinks);
    }

    // With fewer heads than threads, the queries of a head are split into parts, each with its own gradient sums.
    private static int Parts(AttentionProblem problem)
    {
        var (tasks, threads) = (problem.Batch * problem.KeyValueHeads, (long)get_num_threads());
        return threads == 1 || tasks >= 2 * threads ? 1 : (int)Math.Clamp(2 * threads / tasks, 1, Math.Max(1, problem.Queries / 128));
    }

    private static Tensor PartsOf(Tensor like, int parts) => empty([parts * like.size(0), like.size(1), like.size(2), like.size(3)], float32, like.device);

    private static Tensor Whole(Tensor parts, Tensor like) =>
        parts.size(0) == like.size(0) ? parts : parts.unflatten(0, [-1, like.size(0)]).sum([0]).to(like.dtype);

    private static float[]? Run(AttentionProblem problem, AttentionResults results, int parts, bool backward) =>
        CpuKernel.IsWide ? Run<Vectors512, Vector512<float>>(problem, results, parts, backward) : Run<Vectors256, Vector256<float>>(problem, results, parts, backward);

    private static float[]? Run<TVectors, TVector>(AttentionProblem problem, AttentionResults results, int parts, bool backward)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var tasks = (int)(problem.Batch * problem.KeyValueHeads * parts);
        var workers = Math.Clamp(get_num_threads(), 1, tasks);
        var sizes = new AttentionSizes(problem, TVectors.Width, TileProduct.StripColumns<TVectors, TVector>());
        var share = sizes.Scratch(backward);
        using var scratch = empty([workers * share], float32, problem.Query.device);
        var start = (nint)CpuKernel.Pointer(scratch);
        var next = -1;
        var sinks = problem.Sinks is null ? null : new float[problem.Heads];
        CpuKernel.RunParts(workers, worker =>
        {
            var heads = new AttentionHeads<TVectors, TVector>(problem, results, sizes, (float*)start + (worker * share), parts);
            for (var task = Interlocked.Increment(ref next); task < tasks; task = Interlocked.Increment(ref next))
            {
                heads.Run(task, backward);
            }

            if (sinks is not null)
            {
                lock (sinks)
                {
                    for (var head = 0; head < sinks.Length; head++)
                    {
                        sinks[head] += heads.GradSinks![head];
                    }
                }
            }
        });
        GC.KeepAlive((problem, scratch));
        return sinks;
    }
}
