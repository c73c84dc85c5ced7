using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Torch;

/// <summary>Processor features that matter for matrix products.</summary>
internal static class Processor
{
    /// <summary>Instruction sets for bfloat16 products, the widest first: AMX, AVX512_BF16, or Arm's BF16; empty for none.</summary>
    public static IReadOnlyList<string> BFloat16Instructions { get; } = FindBFloat16();

    /// <summary>Floating-point instruction sets, such as AVX2, AVX-512 and those of <see cref="BFloat16Instructions"/>.</summary>
    public static IReadOnlyList<string> Instructions { get; } =
    [
        .. new[] { (Avx2.IsSupported, "AVX2"), (Fma.IsSupported, "FMA"), (Avx512F.IsSupported, "AVX-512"), (AdvSimd.IsSupported, "NEON") }.Where(static i => i.Item1).Select(static i => i.Item2),
        .. BFloat16Instructions,
    ];

    /// <summary>Name of the processor according to Linux, or its architecture on other systems.</summary>
    public static string Name { get; } = CpuInfo("model name") ?? System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture.ToString();

    private static List<string> FindBFloat16()
    {
        var found = new List<string>();
        if (X86Base.IsSupported && X86Base.CpuId(0, 0).Eax >= 7)
        {
            var (most, _, _, edx) = X86Base.CpuId(7, 0);
            var isOn = CpuInfo("flags") is not { } flags || flags.Split(' ').Contains("amx_bf16");
            if ((edx & (1 << 22)) != 0 && isOn)
            {
                found.Add("AMX_BF16");
            }

            if (Avx512F.IsSupported && most >= 1 && (X86Base.CpuId(7, 1).Eax & (1 << 5)) != 0)
            {
                found.Add("AVX512_BF16");
            }
        }
        else if (CpuInfo("Features")?.Split(' ').Contains("bf16") == true)
        {
            found.Add("BF16");
        }

        return found;
    }

    // The first value of a key in /proc/cpuinfo.
    private static string? CpuInfo(string key)
    {
        const string file = "/proc/cpuinfo";
        return !OperatingSystem.IsLinux() || !File.Exists(file) ? null : File.ReadLines(file)
            .Where(line => line.StartsWith(key, StringComparison.Ordinal) && line.Contains(':', StringComparison.Ordinal))
            .Select(static line => line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim())
            .FirstOrDefault();
    }
}
