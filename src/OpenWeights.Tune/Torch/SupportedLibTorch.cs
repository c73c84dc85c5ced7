#if !TORCH_SYSTEM
using System.Reflection;
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>Which versions of libtorch TorchSharp's own library computes right over: that which it was built for, and the later ones it was tried with.</summary>
internal static class SupportedLibTorch
{
    // Tried with all references: the library for 2.10 over 2.10, 2.11 and 2.12. Over 2.13 it loads, and operators get other arguments than were given.
    private static readonly Dictionary<Version, Version> s_last = new() { [new(2, 10)] = new(2, 12) };

    /// <summary>The first version that fits, and the last, both without a patch number.</summary>
    internal static (Version First, Version Last) Range { get; } = Find();

    /// <summary>Whether a version lies between the first and the last.</summary>
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
