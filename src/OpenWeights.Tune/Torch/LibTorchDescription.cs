#if !TORCH_SYSTEM
using System.Runtime.InteropServices;
using System.Text;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// libtorch's description of its build and threads, from its C++ functions at::show_config and at::get_parallel_info, which TorchSharp does
/// not expose. They are called only if the C++ library is GCC's; otherwise the description is empty.
/// </summary>
internal static unsafe class LibTorchDescription
{
    private static readonly string[] s_functions = ["_ZN2at11show_configB5cxx11Ev", "_ZN2at17get_parallel_infoB5cxx11Ev"];

    /// <summary>The lines; empty if unavailable.</summary>
    /// <param name="library">Handle of libtorch_cpu.</param>
    internal static IReadOnlyList<string> Read(nint library)
    {
        var lines = new List<string>();
        foreach (var name in OperatingSystem.IsLinux() ? s_functions : [])
        {
            if (NativeLibrary.TryGetExport(library, name, out var function))
            {
                var text = ((delegate* unmanaged<CppString>)function)();

                // Short strings are stored in the object itself, and its pointer then refers to the original location. These strings have
                // hundreds of characters, and are read once: they are not freed.
                if (text.Length > CppString.Inside)
                {
                    lines.AddRange(Encoding.UTF8.GetString(text.Text, checked((int)text.Length)).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
                }
            }
        }

        return lines;
    }

    // std::string of libstdc++, which is returned through memory of the caller, as any structure of this size.
    [StructLayout(LayoutKind.Sequential)]
    private struct CppString
    {
        internal const int Inside = 15;

        internal byte* Text;
        internal nuint Length;
        internal ulong First;
        internal ulong Second;
    }
}
#endif
