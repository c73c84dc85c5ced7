using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using OpenWeights.Tune.Torch.Memory;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Makes the MKL inside a libtorch for Linux use the widest instructions of the processor. MKL selects its kernels by CPU features only
/// on Intel processors; on others it uses older kernels, less than half as fast on an AMD processor with AVX-512. It checks the vendor in
/// one function, mkl_serv_intel_cpu_true, called through libtorch's import table; that entry is set to a function that returns true.
/// Measurements: docs/performance.md. The environment variable OWT_PLAIN_MKL leaves MKL's selection unchanged.
/// </summary>
internal static unsafe class MklInstructions
{
    private const string Question = "mkl_serv_intel_cpu_true";

    /// <summary>Whether MKL was made to select kernels by CPU features alone.</summary>
    internal static bool AreByFeature { get; private set; }

    /// <summary>Whether MKL would not use all features of this processor: it has at least AVX2 and FMA, and is not from Intel.</summary>
    internal static bool Concerns { get; } = Avx2.IsSupported && Fma.IsSupported && X86Base.CpuId(0, 0) is not (_, 0x756E6547, 0x6C65746E, 0x49656E69);

    /// <summary>Sets the entry if needed. It must be called before the first product, because MKL selects its kernels once.</summary>
    /// <param name="libtorch">Handle of libtorch_cpu.</param>
    internal static void UseFeatures(nint libtorch)
    {
        if (AreByFeature || !Concerns || !OperatingSystem.IsLinux() || Environment.GetEnvironmentVariable("OWT_PLAIN_MKL") is { Length: > 0 } || !NativeLibrary.TryGetExport(libtorch, Question, out _))
        {
            return;
        }

        var places = ImportTable.Find(libtorch, Question);
        AreByFeature = places.Count > 0 && ImportTable.Set(places, (nint)(delegate* unmanaged<int>)&Yes);
    }

    [UnmanagedCallersOnly]
    private static int Yes() => 1;
}
