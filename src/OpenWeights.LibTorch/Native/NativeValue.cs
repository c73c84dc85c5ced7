using System.Runtime.InteropServices;

namespace OpenWeights.LibTorch.Native;

/// <summary>One argument or result of an operator, as owt_value lies in memory.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeValue
{
    public ValueKind Kind;
    public int Aux;
    public long Bits;
    public long Count;
}
