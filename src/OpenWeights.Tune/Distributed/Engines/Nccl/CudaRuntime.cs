using System.Runtime.InteropServices;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Distributed.Engines.Nccl;

/// <summary>
/// Streams and events of the CUDA runtime that torch has loaded: TorchSharp has neither. With them operations run beside torch's own work;
/// without them they run on torch's stream, after one another.
/// </summary>
internal sealed unsafe class CudaRuntime
{
    /// <summary>Variable with the path of libcudart, for a torch that was linked with it.</summary>
    internal const string PathVariable = "OWT_CUDART";

    private const uint NonBlocking = 1;
    private const uint WithoutTiming = 2;
    private const int NotReady = 600;

    private readonly delegate* unmanaged<nint, nint, int> _record;
    private readonly delegate* unmanaged<nint, nint, uint, int> _wait;
    private readonly delegate* unmanaged<nint, int> _query;
    private readonly delegate* unmanaged<nint*, uint, int> _createEvent;
    private readonly delegate* unmanaged<nint*, uint, int> _createStream;
    private readonly delegate* unmanaged<int, byte*> _errorString;

    private CudaRuntime(nint library)
    {
        _record = (delegate* unmanaged<nint, nint, int>)NativeLibrary.GetExport(library, "cudaEventRecord");
        _wait = (delegate* unmanaged<nint, nint, uint, int>)NativeLibrary.GetExport(library, "cudaStreamWaitEvent");
        _query = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cudaEventQuery");
        _createEvent = (delegate* unmanaged<nint*, uint, int>)NativeLibrary.GetExport(library, "cudaEventCreateWithFlags");
        _createStream = (delegate* unmanaged<nint*, uint, int>)NativeLibrary.GetExport(library, "cudaStreamCreateWithFlags");
        _errorString = (delegate* unmanaged<int, byte*>)NativeLibrary.GetExport(library, "cudaGetErrorString");
    }

    /// <summary>The runtime that is loaded, or null.</summary>
    /// <param name="read">Value of a variable of the environment, or null.</param>
    internal static CudaRuntime? Find(Func<string, string?> read)
    {
        // Its own file, which may have a hash in its name; some torches have it inside libtorch_cuda.
        string?[] files = [read(PathVariable), LoadedLibraries.Find("libcudart"), LoadedLibraries.Find("libtorch_cuda.so"), LoadedLibraries.Find("libc10_cuda")];
        foreach (var file in files.OfType<string>().Where(static f => f.Length > 0))
        {
            if (NativeLibrary.TryLoad(file, out var library) && NativeLibrary.TryGetExport(library, "cudaStreamWaitEvent", out _) && NativeLibrary.TryGetExport(library, "cudaEventCreateWithFlags", out _))
            {
                return new CudaRuntime(library);
            }
        }

        return null;
    }

    /// <summary>A stream that does not wait for torch's.</summary>
    internal nint CreateStream()
    {
        nint stream;
        Check(_createStream(&stream, NonBlocking));
        return stream;
    }

    internal nint CreateEvent()
    {
        nint created;
        Check(_createEvent(&created, WithoutTiming));
        return created;
    }

    /// <summary>Marks in an event what a stream has been given up to now.</summary>
    internal void Record(nint marked, nint stream) => Check(_record(marked, stream));

    /// <summary>Lets what a stream is given from now on wait for an event.</summary>
    internal void Wait(nint stream, nint marked) => Check(_wait(stream, marked, 0));

    /// <summary>Whether what an event marks is done.</summary>
    internal bool IsDone(nint marked)
    {
        var code = _query(marked);
        if (code == NotReady)
        {
            return false;
        }

        Check(code);
        return true;
    }

    private void Check(int code)
    {
        if (code != 0)
        {
            throw new NcclException($"CUDA: {Marshal.PtrToStringUTF8((nint)_errorString(code)) ?? $"error {code}"}");
        }
    }
}
