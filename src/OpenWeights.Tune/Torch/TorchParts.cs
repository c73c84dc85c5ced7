using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Torch;

/// <summary>The libraries that a libtorch computes with, from its own description and the loaded libraries.</summary>
/// <param name="Blas">The BLAS library for float32 matrix products, with its version or file; null if unknown.</param>
/// <param name="OneDnn">Version of oneDNN, which computes bfloat16 matrix products; null for none.</param>
/// <param name="OpenMp">Version and file of OpenMP; null for none.</param>
/// <param name="Capability">Instruction set of libtorch's own kernels on this processor, such as AVX512; null if unknown.</param>
internal sealed partial record TorchParts(string? Blas, string? OneDnn, string? OpenMp, string? Capability)
{
    /// <summary>The libraries used by the torch of this process; loads it.</summary>
    public static TorchParts Current()
    {
        var parts = Read(TorchSupplier.Current.Description, LoadedLibraries.Files());
        return parts.Blas?.StartsWith("MKL", StringComparison.Ordinal) == true && MklInstructions.Concerns
            ? parts with { Blas = $"{parts.Blas}, {(MklInstructions.AreByFeature ? "told to choose its kernels by the processor's features" : "with older kernels, since the processor is not Intel's")}" }
            : parts;
    }

    /// <summary>Parses a description.</summary>
    /// <param name="description">Its lines.</param>
    /// <param name="files">The libraries of the process.</param>
    internal static TorchParts Read(IReadOnlyList<string> description, IReadOnlyList<string> files)
    {
        var lines = description.Select(static line => line.TrimStart('-', ' ')).ToList();
        return new TorchParts(
            FindBlas(lines, files),
            First(lines, OneDnnVersion()),
            First(lines, OpenMpVersion()) is { } version ? $"{version}{(File(files, "libgomp", "libiomp5", "libomp") is { } library ? $" ({library})" : "")}" : null,
            First(lines, CpuCapability()));
    }

    private static string? FindBlas(List<string> lines, IReadOnlyList<string> files)
    {
        if (First(lines, MklVersion()) is { } mkl)
        {
            return $"MKL {mkl}{(File(files, "libmkl_core") is null ? ", inside libtorch" : "")}";
        }

        // A distribution's libtorch is built for any BLAS; the loaded one is used.
        if (File(files, "libopenblas", "libarmpl", "libblis", "libnvpl_blas") is { } library)
        {
            return library;
        }

        if (File(files, "libblas") is { } plain)
        {
            return $"{plain}, the reference BLAS; libopenblas0-openmp is many times faster";
        }

        return First(lines, BlasInfo()) is { } info && info != "generic" ? $"{info}, inside libtorch" : null;
    }

    private static string? File(IReadOnlyList<string> files, params string[] starts) =>
        files.FirstOrDefault(file => starts.Any(start => Path.GetFileName(file).StartsWith(start, StringComparison.Ordinal)));

    private static string? First(List<string> lines, Regex pattern) =>
        lines.Select(line => pattern.Match(line)).FirstOrDefault(static match => match.Success)?.Groups[1].Value;

    [GeneratedRegex(@"Math Kernel Library Version (\d+(?:\.\d+)*)")]
    private static partial Regex MklVersion();

    [GeneratedRegex(@"(?:MKL-DNN|oneDNN) v(\d+(?:\.\d+)*)")]
    private static partial Regex OneDnnVersion();

    [GeneratedRegex(@"OpenMP \d+ \(a\.k\.a\. (OpenMP [\d.]+)\)")]
    private static partial Regex OpenMpVersion();

    [GeneratedRegex(@"CPU capability usage: (\w+)")]
    private static partial Regex CpuCapability();

    [GeneratedRegex(@"\bBLAS_INFO=(\w+)")]
    private static partial Regex BlasInfo();
}
