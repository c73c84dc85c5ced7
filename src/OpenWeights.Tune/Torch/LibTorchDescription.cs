#if !TORCH_SYSTEM
using System.Runtime.InteropServices;
using System.Text;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// What libtorch tells of how it was built and runs: its C++ functions at::show_config and at::get_parallel_info, for which TorchSharp has
/// no member. They are called where the C++ library is that of GCC; elsewhere nothing is told.
/// </summary>
internal static unsafe class LibTorchDescription
{
    private static readonly string[] s_functions = ["_ZN2at11show_configB5cxx11Ev", "_ZN2at17get_parallel_infoB5cxx11Ev"];

    /// <summary>The lines, none where they cannot be had.</summary>
    /// <param name="library">The handle of libtorch_cpu.</param>
    internal static IReadOnlyList<string> Read(nint library)
    {
        var lines = new List<string>();
        foreach (var name in OperatingSystem.IsLinux() ? s_functions : [])
        {
            if (NativeLibrary.TryGetExport(library, name, out var function))
            {
                var text = ((delegate* unmanaged<CppString>)function)();

                // Short texts lie in the object itself, and its pointer is to where it was made. These have hundreds of letters, and are asked for once: they are not freed.
                if (text.Length > CppString.Inside)
                {
                    lines.AddRange(Encoding.UTF8.GetString(text.Text, checked((int)text.Length)).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
                }
            }
        }

        return lines;
    }

    // std::string of libstdc++, which a function gives back through memory of the caller, as it does any structure of this size.
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
