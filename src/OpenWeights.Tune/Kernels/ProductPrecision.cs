using System.Runtime.Intrinsics.X86;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Selects the dtype of matrix products.</summary>
internal static class ProductPrecision
{
    // Without instructions for it, bfloat16 products are several times slower on a CPU than float32 products.
    private static readonly bool s_multipliesBFloat16 = !X86Base.IsSupported || HasBFloat16Instructions();

    // With fewer rows, converting the other factor to float32 is not worthwhile.
    internal const long MinRows = 32;

    /// <summary>The dtype for products with some states: their own, or float32 if that is faster.</summary>
    /// <param name="states">The states, of any shape.</param>
    /// <param name="rows">Number of rows of a product.</param>
    internal static ScalarType Of(Tensor states, long rows) =>
        states.dtype == ScalarType.BFloat16 && !s_multipliesBFloat16 && rows >= MinRows && states.device.type == TorchSharp.DeviceType.CPU ? float32 : states.dtype;

    // AVX512_BF16: leaf 7, subleaf 1, eax bit 5; AMX-BF16: leaf 7, subleaf 0, edx bit 22 (Intel's manual, volume 2A, CPUID).
    private static bool HasBFloat16Instructions() =>
        X86Base.CpuId(0, 0).Eax >= 7 && ((X86Base.CpuId(7, 0).Edx & (1 << 22)) != 0 || (X86Base.CpuId(7, 1).Eax & (1 << 5)) != 0);
}
