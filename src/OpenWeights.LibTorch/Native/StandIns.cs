using System.Runtime.InteropServices;

namespace OpenWeights.LibTorch.Native;

/// <summary>
/// Empty libraries that replace those a distribution's libtorch links but does not use (OpenCV and FFmpeg, with the 250 libraries
/// they depend on in Debian): half of the loading time, and 70 MB. The loader uses an already loaded library of the same name.
/// native/build.sh determines them, and verifies that no symbol is missing without them.
/// </summary>
internal sealed partial class StandIns : IDisposable
{
    private const int RtldNow = 2;
    private const int RtldNoLoad = 4;
    private readonly List<nint> _handles = [];
    private readonly List<string> _names = [];

    private StandIns()
    {
    }

    /// <summary>Names of the replaced libraries.</summary>
    internal IReadOnlyList<string> Names => _names;

    /// <summary>
    /// Loads the empty libraries of a folder, except those whose real library is already loaded; none if OWT_WHOLE_LIBTORCH is set.
    /// </summary>
    internal static StandIns Load(string folder)
    {
        var standIns = new StandIns();
        if (!OperatingSystem.IsLinux() || Environment.GetEnvironmentVariable("OWT_WHOLE_LIBTORCH") is { Length: > 0 } || !Directory.Exists(folder))
        {
            return standIns;
        }

        foreach (var file in Directory.EnumerateFiles(folder))
        {
            var name = Path.GetFileName(file);
            if (dlopen(name, RtldNow | RtldNoLoad) is not 0 and var real)
            {
                _ = dlclose(real);
            }
            else if (dlopen(file, RtldNow) is not 0 and var handle)
            {
                standIns._handles.Add(handle);
                standIns._names.Add(name);
            }
        }

        standIns._names.Sort(StringComparer.Ordinal);
        return standIns;
    }

    /// <summary>Releases them; those that a library is linked to stay loaded.</summary>
    public void Dispose()
    {
        _handles.ForEach(static handle => _ = dlclose(handle));
        _handles.Clear();
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint dlopen(string path, int flags);

    [LibraryImport("libc")]
    private static partial int dlclose(nint handle);
}
