using System.Runtime.InteropServices;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed.Engines.Nccl;

/// <summary>NCCL, wherever it is: TorchSharp's packages have none of their own, but some libtorch_cuda have it inside.</summary>
internal sealed unsafe class NcclLibrary
{
    /// <summary>Variable with the path of the library to load.</summary>
    internal const string PathVariable = "OWT_NCCL";

    private const string Soname = "libnccl.so.2";
    private const string Proof = "ncclGetVersion";
    private const int Sum = 0;
    private const int InProgress = 7;
    private const int UInt8 = 1;

    private readonly nint _library;

    private NcclLibrary(nint library) => _library = library;

    /// <summary>What it is: "NCCL 2.27.5".</summary>
    internal string Name
    {
        get
        {
            int version;
            Check(((delegate* unmanaged<int*, int>)Export(Proof))(&version), 0);

            // 2.27.5 is 22705; up to 2.8 it was 2805.
            var (unit, small) = version >= 10000 ? (10000, 100) : (1000, 100);
            return $"NCCL {version / unit}.{version % unit / small}.{version % small}";
        }
    }

    /// <summary>Loads NCCL. Torch must be loaded already.</summary>
    /// <param name="read">Value of a variable of the environment, or null.</param>
    /// <exception cref="RankFailedException">There is none.</exception>
    internal static NcclLibrary Load(Func<string, string?> read)
    {
        if (read(PathVariable) is { Length: > 0 } chosen)
        {
            return NativeLibrary.TryLoad(chosen, out var its) && NativeLibrary.TryGetExport(its, Proof, out _)
                ? new NcclLibrary(its)
                : throw new RankFailedException($"{PathVariable} is {chosen}, which is no NCCL library that can be loaded.");
        }

        // In a Python installation: site-packages/torch/lib, and site-packages/nvidia/nccl/lib.
        var torch = LoadedLibraries.Find("libtorch_cpu") is { } file ? Path.GetDirectoryName(file) : null;
        string?[] places = [LoadedLibraries.Find("libnccl"), Soname, torch is null ? null : Path.Combine(torch, "..", "..", "nvidia", "nccl", "lib", Soname), LoadedLibraries.Find("libtorch_cuda.so")];
        foreach (var place in places.OfType<string>())
        {
            if (NativeLibrary.TryLoad(place, out var library) && NativeLibrary.TryGetExport(library, Proof, out _))
            {
                return new NcclLibrary(library);
            }
        }

        throw new RankFailedException(
            $"Several ranks on GPUs need NCCL, which is not here (searched for {Soname}, beside torch and in libtorch_cuda). On Debian and Ubuntu with NVIDIA's packages: sudo apt-get install libnccl2; or: pip install nvidia-nccl-cu12, and set {PathVariable} to its {Soname}.");
    }

    /// <summary>What all ranks of a communicator know.</summary>
    internal byte[] CreateId()
    {
        UniqueId id;
        Check(((delegate* unmanaged<UniqueId*, int>)Export("ncclGetUniqueId"))(&id), 0);
        return new ReadOnlySpan<byte>(&id, UniqueId.Size).ToArray();
    }

    /// <summary>Joins the other ranks; returns when all have.</summary>
    internal nint Join(byte[] id, int rank, int size)
    {
        UniqueId value;
        id.CopyTo(new Span<byte>(&value, UniqueId.Size));
        nint communicator;
        Check(((delegate* unmanaged<nint*, int, UniqueId, int, int>)Export("ncclCommInitRank"))(&communicator, size, value, rank), 0);
        return communicator;
    }

    internal void AllReduce(nint values, long count, ScalarType dtype, nint communicator, nint stream) =>
        Check(((delegate* unmanaged<nint, nint, nuint, int, int, nint, nint, int>)Export("ncclAllReduce"))(values, values, (nuint)count, Number(dtype), Sum, communicator, stream), communicator);

    internal void ReduceScatter(nint values, nint part, long count, ScalarType dtype, nint communicator, nint stream) =>
        Check(((delegate* unmanaged<nint, nint, nuint, int, int, nint, nint, int>)Export("ncclReduceScatter"))(values, part, (nuint)count, Number(dtype), Sum, communicator, stream), communicator);

    internal void AllGather(nint part, nint values, long bytes, nint communicator, nint stream) =>
        Check(((delegate* unmanaged<nint, nint, nuint, int, nint, nint, int>)Export("ncclAllGather"))(part, values, (nuint)bytes, UInt8, communicator, stream), communicator);

    internal void Broadcast(nint values, long bytes, int root, nint communicator, nint stream) =>
        Check(((delegate* unmanaged<nint, nint, nuint, int, int, nint, nint, int>)Export("ncclBroadcast"))(values, values, (nuint)bytes, UInt8, root, communicator, stream), communicator);

    /// <summary>Sends a part to each rank and receives one of each, as one operation.</summary>
    internal void AllToAll(nint sent, nint received, long bytes, int size, nint communicator, nint stream)
    {
        Check(((delegate* unmanaged<int>)Export("ncclGroupStart"))(), communicator);
        var send = (delegate* unmanaged<nint, nuint, int, int, nint, nint, int>)Export("ncclSend");
        var receive = (delegate* unmanaged<nint, nuint, int, int, nint, nint, int>)Export("ncclRecv");
        for (var rank = 0; rank < size; rank++)
        {
            var part = (nint)(rank * bytes);
            Check(send(sent + part, (nuint)bytes, UInt8, rank, communicator, stream), communicator);
            Check(receive(received + part, (nuint)bytes, UInt8, rank, communicator, stream), communicator);
        }

        Check(((delegate* unmanaged<int>)Export("ncclGroupEnd"))(), communicator);
    }

    /// <summary>What went wrong beside this program's calls, or null.</summary>
    internal string? AsynchronousError(nint communicator)
    {
        int error;
        Check(((delegate* unmanaged<nint, int*, int>)Export("ncclCommGetAsyncError"))(communicator, &error), communicator);
        return error is 0 or InProgress ? null : Describe(error, communicator);
    }

    /// <summary>Ends a communicator whatever the others do; operations under way end undone.</summary>
    internal void Abort(nint communicator) => _ = ((delegate* unmanaged<nint, int>)Export("ncclCommAbort"))(communicator);

    /// <summary>Ends a communicator; all ranks call it.</summary>
    internal void Destroy(nint communicator) => _ = ((delegate* unmanaged<nint, int>)Export("ncclCommDestroy"))(communicator);

    private static int Number(ScalarType dtype) => dtype switch
    {
        ScalarType.Float32 => 7,
        ScalarType.Float64 => 8,
        ScalarType.Int64 => 4,
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "not a dtype of sums"),
    };

    private void Check(int code, nint communicator)
    {
        if (code is not (0 or InProgress))
        {
            throw new NcclException(Describe(code, communicator));
        }
    }

    private string Describe(int code, nint communicator)
    {
        var text = Marshal.PtrToStringUTF8((nint)((delegate* unmanaged<int, byte*>)Export("ncclGetErrorString"))(code));
        var last = NativeLibrary.TryGetExport(_library, "ncclGetLastError", out var ask) ? Marshal.PtrToStringUTF8((nint)((delegate* unmanaged<nint, byte*>)ask)(communicator)) : null;
        return $"NCCL: {text}{(string.IsNullOrWhiteSpace(last) ? "" : $": {last.Split('\n')[0]}")} (NCCL_DEBUG=INFO shows more)";
    }

    private nint Export(string name) =>
        NativeLibrary.TryGetExport(_library, name, out var address) ? address : throw new RankFailedException($"this NCCL has no {name}; version 2.10 or later is needed ({PathVariable}).");

    [StructLayout(LayoutKind.Sequential)]
    private struct UniqueId
    {
        internal const int Size = 128;
        private fixed byte _bytes[Size];
    }
}

/// <summary>An error of NCCL or CUDA.</summary>
internal sealed class NcclException(string message) : Exception(message);
