using System.Runtime.ExceptionServices;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Runs backward passes and manages what <see cref="CustomFunction{T}"/>s leave there: gradients until libtorch references them, and
/// exceptions.
/// </summary>
internal sealed class BackwardPass
{
    private static readonly Lock s_gate = new();
    private static readonly List<BackwardPass> s_running = [];

    // Gradients still held for libtorch's own threads, which never call backward themselves.
    private static readonly List<List<Tensor>> s_heldElsewhere = [];

    // CPU functions run on the thread that called backward, GPU functions on a libtorch thread.
    [ThreadStatic]
    private static BackwardPass? t_current;

    [ThreadStatic]
    private static List<Tensor>? t_held;

    private ExceptionDispatchInfo? _failure;

    private BackwardPass()
    {
    }

    /// <summary>Computes the gradients of outputs and adds them to all leaf tensors.</summary>
    /// <param name="outputs">The outputs.</param>
    /// <param name="gradients">Gradients of the outputs; null for the 1 of a scalar.</param>
    /// <exception cref="Exception">An exception of a custom function; the gradients are then incomplete.</exception>
    internal static void Run(IReadOnlyList<Tensor> outputs, IReadOnlyList<Tensor>? gradients = null)
    {
        var (pass, outer) = (new BackwardPass(), t_current);
        lock (s_gate)
        {
            s_running.Add(pass);
        }

        t_current = pass;
        try
        {
            autograd.backward([.. outputs], gradients is null ? null : [.. gradients]);
        }
        finally
        {
            t_current = outer;
            Release();
            lock (s_gate)
            {
                _ = s_running.Remove(pass);
                if (s_running.Count == 0)
                {
                    s_heldElsewhere.ForEach(Release);
                    s_heldElsewhere.Clear();
                }
            }
        }

        pass._failure?.Throw();
    }

    /// <summary>
    /// Keeps gradients alive for libtorch, to which TorchSharp passes handles without references: until the thread's next custom function,
    /// or the end of the pass.
    /// </summary>
    /// <param name="gradients">The gradients, in no dispose scope.</param>
    internal static void Hold(IEnumerable<Tensor?> gradients)
    {
        t_held ??= [];
        t_held.AddRange(gradients.OfType<Tensor>());
        if (t_current is null)
        {
            lock (s_gate)
            {
                if (s_running.Count > 0 && !s_heldElsewhere.Contains(t_held))
                {
                    s_heldElsewhere.Add(t_held);
                }
            }
        }
    }

    /// <summary>Releases the gradients of this thread's earlier functions, which libtorch references by now.</summary>
    internal static void Release()
    {
        if (t_held is not null)
        {
            Release(t_held);
        }
    }

    /// <summary>
    /// Stores an exception of a custom function's backward for the caller of <see cref="Run"/>, the only place where it can be caught.
    /// </summary>
    /// <param name="exception">The exception; only the first of a pass is kept.</param>
    internal static bool Catches(Exception exception)
    {
        var pass = t_current;
        if (pass is null)
        {
            lock (s_gate)
            {
                pass = s_running.LastOrDefault();
            }
        }

        if (pass is not null)
        {
            _ = Interlocked.CompareExchange(ref pass._failure, ExceptionDispatchInfo.Capture(exception), null);
        }

        return pass is not null;
    }

    private static void Release(List<Tensor> held)
    {
        held.ForEach(static t => t.Dispose());
        held.Clear();
    }
}
