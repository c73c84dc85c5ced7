using System.Runtime.Intrinsics.X86;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>What dtype matrices are multiplied in.</summary>
internal static class ProductPrecision
{
    // Without instructions for it a CPU makes bfloat16 products several times slower than those of the same numbers in float32.
    private static readonly bool s_multipliesBFloat16 = !X86Base.IsSupported || HasBFloat16Instructions();

    // Fewer rows do not pay for turning the other factor into float32.
    internal const long MinRows = 32;

    /// <summary>The dtype for products with some states: their own, or float32, of which theirs is a part, where that is faster.</summary>
    /// <param name="states">The states, of any shape.</param>
    /// <param name="rows">The rows of a product.</param>
    internal static ScalarType Of(Tensor states, long rows) =>
        states.dtype == ScalarType.BFloat16 && !s_multipliesBFloat16 && rows >= MinRows && states.device.type == TorchSharp.DeviceType.CPU ? float32 : states.dtype;

    // AVX512_BF16: leaf 7, subleaf 1, eax bit 5; AMX-BF16: leaf 7, subleaf 0, edx bit 22 (Intel's manual, volume 2A, CPUID).
    private static bool HasBFloat16Instructions() =>
        X86Base.CpuId(0, 0).Eax >= 7 && ((X86Base.CpuId(7, 0).Edx & (1 << 22)) != 0 || (X86Base.CpuId(7, 1).Eax & (1 << 5)) != 0);
}
