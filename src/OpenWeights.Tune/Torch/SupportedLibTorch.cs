#if !TORCH_SYSTEM
using System.Reflection;
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// The libtorch versions that TorchSharp's native library works with: the one it was built for, and later ones that were tested.
/// </summary>
internal static class SupportedLibTorch
{
    // Tested with all references: the library for 2.10 with 2.10, 2.11 and 2.12. With 2.13 it loads, but operators receive wrong arguments.
    private static readonly Dictionary<Version, Version> s_last = new() { [new(2, 10)] = new(2, 12) };

    /// <summary>First and last supported version, without patch number.</summary>
    internal static (Version First, Version Last) Range { get; } = Find();

    /// <summary>Whether a version is within the supported range.</summary>
    internal static bool Fits(Version version)
    {
        var plain = new Version(version.Major, version.Minor);
        return plain >= Range.First && plain <= Range.Last;
    }

    // The constant is read without running TorchSharp's static constructor, which would load the libraries.
    private static (Version First, Version Last) Find()
    {
        var field = typeof(torch).GetField("libtorchPackageVersion", BindingFlags.NonPublic | BindingFlags.Static);
        var built = Version.TryParse(field?.GetRawConstantValue() as string, out var found) ? new Version(found.Major, found.Minor) : new Version(2, 10);
        return (built, s_last.GetValueOrDefault(built, built));
    }
}
#endif
