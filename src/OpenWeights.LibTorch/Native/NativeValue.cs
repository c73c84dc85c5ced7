using System.Runtime.InteropServices;

namespace OpenWeights.LibTorch.Native;

/// <summary>One argument or result of an operator, with the memory layout of owt_value.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeValue
{
    public ValueKind Kind;
    public int Aux;
    public long Bits;
    public long Count;
}

/// <summary>The type of an owt_value (owt_kind).</summary>
internal enum ValueKind
{
    None = 0,
    Tensor = 1,
    Int = 2,
    Double = 3,
    Bool = 4,
    Ints = 5,
    Tensors = 6,
    String = 7,
    Device = 8,
    Generator = 9,
}

/// <summary>Tensor properties queried in one call (owt_info).</summary>
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
