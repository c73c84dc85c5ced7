using System.Runtime.ExceptionServices;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>Runs backward, and looks after what <see cref="CustomFunction{T}"/>s leave there: gradients that libtorch is about to take over, and exceptions.</summary>
internal sealed class BackwardPass
{
    private static readonly Lock s_gate = new();
    private static readonly List<BackwardPass> s_running = [];

    // Gradients that threads of libtorch's own, which never call backward themselves, still hold.
    private static readonly List<List<Tensor>> s_heldElsewhere = [];

    // A CPU's functions run on the thread that called backward, a GPU's on one of libtorch's own.
    [ThreadStatic]
    private static BackwardPass? t_current;

    [ThreadStatic]
    private static List<Tensor>? t_held;

    private ExceptionDispatchInfo? _failure;

    private BackwardPass()
    {
    }

    /// <summary>The gradients of all leaves that outputs were made from are added to them.</summary>
    /// <param name="outputs">Where to begin.</param>
    /// <param name="gradients">The outputs' gradients; null for a scalar's 1.</param>
    /// <exception cref="Exception">What a custom function threw; gradients are incomplete then.</exception>
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
    /// Keeps gradients for libtorch, to which TorchSharp hands over handles and no references: until the thread's next custom function, or
    /// until the pass is over.
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

    /// <summary>Lets go of the gradients that this thread's functions gave before: libtorch has its own references by now.</summary>
    internal static void Release()
    {
        if (t_held is not null)
        {
            Release(t_held);
        }
    }

    /// <summary>Whether an exception in a custom function's backward is kept for the one who called <see cref="Run"/>; nobody else could catch it.</summary>
    /// <param name="exception">The exception; a pass's first one counts.</param>
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
