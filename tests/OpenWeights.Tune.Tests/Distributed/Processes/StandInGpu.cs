using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Distributed.Processes;

/// <summary>The stand-in for NCCL and CUDA's streams that a rank was told to use, if any: its GPU computes beside the program.</summary>
internal static unsafe class StandInGpu
{
    private static readonly nint s_library = Environment.GetEnvironmentVariable("OWT_NCCL") is { Length: > 0 } path ? NativeLibrary.Load(path) : 0;

    /// <summary>Waits for what torch's stream was given.</summary>
    internal static void Synchronize()
    {
        if (s_library != 0)
        {
            _ = ((delegate* unmanaged<nint, int>)NativeLibrary.GetExport(s_library, "cudaStreamSynchronize"))(0);
        }
    }

    /// <summary>Gives torch's stream some work that takes its time, whose result is these values.</summary>
    internal static void FillLate(Tensor values, float value)
    {
        fixed (byte* first = values.bytes)
        {
            ((delegate* unmanaged<byte*, nuint, float, void>)NativeLibrary.GetExport(s_library, "standin_fill_late"))(first, (nuint)values.numel(), value);
        }
    }

    /// <summary>Lets torch's stream copy values.</summary>
    internal static void Copy(Tensor to, Tensor from)
    {
        fixed (byte* target = to.bytes, source = from.bytes)
        {
            ((delegate* unmanaged<byte*, byte*, nuint, void>)NativeLibrary.GetExport(s_library, "standin_copy"))(target, source, (nuint)to.numel());
        }
    }
}
