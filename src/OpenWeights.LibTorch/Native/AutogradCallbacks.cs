using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using System.Text;

namespace OpenWeights.LibTorch.Native;

/// <summary>
/// Called by libtorch's graph for functions written in C#. An exception is stored, and rethrown where backward
/// was called, instead of crossing native frames: its number is passed in the text of the native error, on any thread.
/// </summary>
internal static unsafe class AutogradCallbacks
{
    private const string Mark = "exception in a C# backward: ";

    private static readonly ConcurrentDictionary<long, ExceptionDispatchInfo> s_failures = new();
    private static long s_lastFailure;

    internal static delegate* unmanaged<nint, nint*, long, nint*, long, int> Run => &RunBackward;

    internal static delegate* unmanaged<nint, void> Release => &ReleaseContext;

    /// <summary>Rethrows the exception of a C# backward that a native error refers to, if any.</summary>
    internal static void Rethrow(string error)
    {
        if (error.StartsWith(Mark, StringComparison.Ordinal)
            && long.TryParse(error.AsSpan(Mark.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            && s_failures.TryRemove(number, out var failure))
        {
            failure.Throw();
        }
    }

    [UnmanagedCallersOnly]
    private static int RunBackward(nint context, nint* gradients, long count, nint* results, long resultCount)
    {
        try
        {
            var node = (IManagedNode)GCHandle.FromIntPtr(context).Target!;
            node.Backward(new ReadOnlySpan<nint>(gradients, (int)count), new Span<nint>(results, (int)resultCount));
            return 0;
        }
#pragma warning disable CA1031 // whatever is thrown must not unwind through native frames
        catch (Exception e)
#pragma warning restore CA1031
        {
            var number = Interlocked.Increment(ref s_lastFailure);
            s_failures[number] = ExceptionDispatchInfo.Capture(e);
            fixed (byte* text = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{Mark}{number}\0")))
            {
                NativeMethods.owt_set_error(text);
            }

            return 1;
        }
    }

    [UnmanagedCallersOnly]
    private static void ReleaseContext(nint context) => GCHandle.FromIntPtr(context).Free();
}

/// <summary>A node of the autograd graph whose backward is written in C#.</summary>
internal interface IManagedNode
{
    /// <summary>
    /// Takes ownership of the gradients' handles, and returns owned handles (or zero) of the gradients of its tensor inputs.
    /// </summary>
    void Backward(ReadOnlySpan<nint> gradients, Span<nint> results);
}
