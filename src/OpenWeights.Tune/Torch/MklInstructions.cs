using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using OpenWeights.Tune.Torch.Memory;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Has the MKL inside a libtorch for Linux use the widest instructions that the processor has. MKL chooses its kernels by features, but only
/// on processors of Intel; on others it takes older ones, less than half as fast on a processor of AMD with AVX-512. It asks for the maker in
/// one function, mkl_serv_intel_cpu_true, through libtorch's table of imported functions; that entry is set to a function that answers yes.
/// What it is worth: docs/performance.md. OWT_PLAIN_MKL in the environment leaves MKL's choice as it is.
/// </summary>
internal static unsafe class MklInstructions
{
    private const string Question = "mkl_serv_intel_cpu_true";

    /// <summary>Whether MKL was told to go by the processor's features alone.</summary>
    internal static bool AreByFeature { get; private set; }

    /// <summary>Whether this processor is one whose features MKL would leave unused: AVX2 and FMA at least, of another maker than Intel.</summary>
    internal static bool Concerns { get; } = Avx2.IsSupported && Fma.IsSupported && X86Base.CpuId(0, 0) is not (_, 0x756E6547, 0x6C65746E, 0x49656E69);

    /// <summary>Sets the entry, where there is need to; to be called before the first product, since MKL chooses once.</summary>
    /// <param name="libtorch">The handle of libtorch_cpu.</param>
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
