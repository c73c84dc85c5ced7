using System.Runtime;
using Microsoft.AspNetCore.Http;

namespace OpenWeights.Tune.Server.Safety;

/// <summary>
/// Frees what large requests leave. Their texts are garbage that .NET collects when more is made, and a server that has nothing to do makes none: it would
/// keep several times the size of the largest requests it ever had.
/// </summary>
internal sealed class LargeRequests
{
    // Smaller ones are collected along with other garbage.
    private const long Large = 64 << 10;

    // Of all requests since memory was freed.
    private const long Much = 8 << 20;

    private long _bytes;
    private int _isFreeing;

    /// <summary>Notes a request that was answered.</summary>
    internal void Note(HttpRequest request)
    {
        // One in chunks does not say how large it is.
        var size = request.ContentLength ?? (request.Body == Stream.Null ? 0 : Large);
        if (size < Large || Interlocked.Add(ref _bytes, size) < Much || Interlocked.Exchange(ref _isFreeing, 1) != 0)
        {
            return;
        }

        _ = Interlocked.Exchange(ref _bytes, 0);
        _ = ThreadPool.UnsafeQueueUserWorkItem(static large => large.Free(), this, preferLocal: false);
    }

    private void Free()
    {
        GCSettings.LargeObjectHeapCompactionMode = GCLargeObjectHeapCompactionMode.CompactOnce;
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        Volatile.Write(ref _isFreeing, 0);
    }
}
