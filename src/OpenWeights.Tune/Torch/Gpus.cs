using System.Globalization;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>GPU properties from the CUDA driver that torch's API does not provide: name, compute capability and memory.</summary>
internal static unsafe class CudaDriver
{
    private const int CapabilityMajor = 75;
    private const int CapabilityMinor = 76;
    private static readonly Lazy<nint> s_library = new(Find);

    /// <summary>Properties of a GPU.</summary>
    /// <param name="Name">Its name.</param>
    /// <param name="Major">Major version of the compute capability.</param>
    /// <param name="Minor">Minor version of the compute capability.</param>
    /// <param name="FreeBytes">Available memory, besides the context that every program on the GPU has.</param>
    /// <param name="TotalBytes">Total memory.</param>
    internal sealed record Gpu(string Name, int Major, int Minor, long FreeBytes, long TotalBytes);

    /// <summary>A replacement for the driver's library, for tests; 0 for none.</summary>
    internal static nint StandIn { get; set; }

    /// <summary>Reads the properties of a GPU by torch's index; null if the driver is not found or does not answer.</summary>
    internal static Gpu? Read(int index)
    {
        if (Library == 0)
        {
            return null;
        }

        int device, major, minor;
        nint context;
        nuint free, total;
        var name = stackalloc byte[256];
        return ((delegate* unmanaged<uint, int>)Export("cuInit"))(0) == 0
            && ((delegate* unmanaged<int*, int, int>)Export("cuDeviceGet"))(&device, index) == 0
            && ((delegate* unmanaged<byte*, int, int, int>)Export("cuDeviceGetName"))(name, 255, device) == 0
            && ((delegate* unmanaged<int*, int, int, int>)Export("cuDeviceGetAttribute"))(&major, CapabilityMajor, device) == 0
            && ((delegate* unmanaged<int*, int, int, int>)Export("cuDeviceGetAttribute"))(&minor, CapabilityMinor, device) == 0

            // This is the context that torch uses, so its memory is already subtracted from the available memory.
            && ((delegate* unmanaged<nint*, int, int>)Export("cuDevicePrimaryCtxRetain"))(&context, device) == 0
            && ((delegate* unmanaged<nint, int>)Export("cuCtxSetCurrent"))(context) == 0
            && ((delegate* unmanaged<nuint*, nuint*, int>)Export("cuMemGetInfo_v2"))(&free, &total) == 0
            ? new Gpu(Marshal.PtrToStringUTF8((nint)name) ?? "", major, minor, (long)free, (long)total)
            : null;
    }

    private static nint Library => StandIn != 0 ? StandIn : s_library.Value;

    private static nint Export(string name) => NativeLibrary.GetExport(Library, name);

    // A replacement of the driver may already be loaded.
    private static nint Find()
    {
        var program = NativeLibrary.GetMainProgramHandle();
        if (NativeLibrary.TryGetExport(program, "cuMemGetInfo_v2", out _))
        {
            return program;
        }

        return NativeLibrary.TryLoad(OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1", out var library) ? library : 0;
    }
}

/// <summary>Describes this machine's GPUs.</summary>
internal static class Gpus
{
    private const double Gibibyte = 1L << 30;

    /// <summary>Describes a GPU: name, compute capability, memory, and the dtype in which bfloat16 models are computed.</summary>
    /// <param name="index">Its index in torch.</param>
    public static string Describe(int index)
    {
        var device = new Device(DeviceType.CUDA, index);
        var bfloat16Runs = Devices.HasBFloat16(device) ? "bfloat16" : "float16 with loss scaling (Gemma models in float32)";
        return CudaDriver.Read(index) is { } gpu
            ? string.Create(CultureInfo.InvariantCulture, $"{device}: {gpu.Name}, compute capability {gpu.Major}.{gpu.Minor}, {gpu.FreeBytes / Gibibyte:F1} GiB free of {gpu.TotalBytes / Gibibyte:F1}; dtype auto runs bfloat16 models in {bfloat16Runs}")
            : $"{device}: the driver gives no information";
    }
}
