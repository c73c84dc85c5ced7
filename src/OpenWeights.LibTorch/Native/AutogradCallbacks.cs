using System.Runtime.InteropServices;
using System.Text;

namespace OpenWeights.LibTorch.Native;

/// <summary>
/// What libtorch's graph calls when it reaches a function written in C#. An exception inside is kept and thrown again where backward
/// was called, instead of crossing native frames.
/// </summary>
internal static unsafe class AutogradCallbacks
{
    private static Exception? s_failure;

    internal static delegate* unmanaged<nint, nint*, long, nint*, long, int> Run => &RunBackward;

    internal static delegate* unmanaged<nint, void> Release => &ReleaseContext;

    /// <summary>The exception that a C# backward threw since the last call, if one did.</summary>
    internal static Exception? TakeFailure() => Interlocked.Exchange(ref s_failure, null);

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
            _ = Interlocked.Exchange(ref s_failure, e);
            fixed (byte* text = Encoding.UTF8.GetBytes(e.Message + '\0'))
            {
                NativeMethods.owt_set_error(text);
            }

            return 1;
        }
    }

    [UnmanagedCallersOnly]
    private static void ReleaseContext(nint context) => GCHandle.FromIntPtr(context).Free();
}
