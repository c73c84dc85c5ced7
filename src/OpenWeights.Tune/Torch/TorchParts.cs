using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Torch;

/// <summary>What a libtorch computes with, read from its own description and from the libraries that are loaded.</summary>
/// <param name="Blas">The library of products of float32 matrices with its version or file; null where it cannot be told.</param>
/// <param name="OneDnn">The version of oneDNN, which has the products of bfloat16 matrices; null for none.</param>
/// <param name="OpenMp">OpenMP's version and the file of its library; null for none.</param>
/// <param name="Capability">The instructions that libtorch's own kernels use on this processor, such as AVX512; null where it cannot be told.</param>
public sealed partial record TorchParts(string? Blas, string? OneDnn, string? OpenMp, string? Capability)
{
    /// <summary>The parts of the torch of this process; loads it.</summary>
    public static TorchParts Current()
    {
        var parts = Read(TorchSupplier.Current.Description, LoadedLibraries.Files());
        return parts.Blas?.StartsWith("MKL", StringComparison.Ordinal) == true && MklInstructions.Concerns
            ? parts with { Blas = $"{parts.Blas}, {(MklInstructions.AreByFeature ? "told to choose its kernels by the processor's features" : "with older kernels, since the processor is not Intel's")}" }
            : parts;
    }

    /// <summary>Reads a description.</summary>
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

        // A distribution's libtorch is built against any BLAS, and the one that is loaded counts.
        if (File(files, "libopenblas", "libarmpl", "libblis", "libnvpl_blas") is { } library)
        {
            return library;
        }

        if (File(files, "libblas") is { } plain)
        {
            return $"{plain}, the plain one: libopenblas0-openmp is many times faster";
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
