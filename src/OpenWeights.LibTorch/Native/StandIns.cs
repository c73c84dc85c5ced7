using System.Runtime.InteropServices;

namespace OpenWeights.LibTorch.Native;

/// <summary>
/// Empty libraries in the place of those that a distribution's libtorch names and takes nothing from (OpenCV and FFmpeg, with the 250 libraries
/// that come with them on Debian): half of the time that loading takes, and 70 MB. The loader takes a library that is in the process already
/// for one of the same name. native/build.sh finds out which ones, and proves that nothing lacks a symbol without them.
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

    /// <summary>The names of the libraries that are stood in for.</summary>
    internal IReadOnlyList<string> Names => _names;

    /// <summary>Loads the empty libraries of a folder, but for those whose real one is in the process already; none where OWT_WHOLE_LIBTORCH is set.</summary>
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

    /// <summary>Lets go of them: those that a library has been tied to stay.</summary>
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
