using System.Runtime.InteropServices;

namespace OpenWeights.LibTorch.Native;

/// <summary>What is asked of a tensor in one call (owt_info).</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeTensorInfo
{
    public long* Sizes;
    public long* Strides;
    public long Dimensions;
    public long Elements;
    public long StorageOffset;
    public int DType;
    public int DeviceType;
    public int DeviceIndex;
    public int ElementSize;
}
