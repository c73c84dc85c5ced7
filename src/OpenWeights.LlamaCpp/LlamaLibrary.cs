using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using LLama.Native;

namespace OpenWeights.LlamaCpp;

/// <summary>llama.cpp's libraries from LLamaSharp's package for this platform and processor; loaded at first use.</summary>
public static class LlamaLibrary
{
    private const string FolderName = "llama.cpp";

    private static readonly Lazy<string?> s_problem = new(Load);
    private static readonly Lock s_lock = new();
    private static readonly List<string> s_errors = [];

    /// <summary>Why llama.cpp is unavailable on this machine, or null.</summary>
    public static string? Problem => s_problem.Value;

    /// <summary>The folder of its libraries: one of the builds for x64 (<c>avx512</c>, <c>avx2</c>, ...), or the platform's only one.</summary>
    public static string Folder { get; } = Find();

    private static string PathOf(string name) => Path.Combine(Folder, OperatingSystem.IsWindows() ? $"{name}.dll" : OperatingSystem.IsMacOS() ? $"lib{name}.dylib" : $"lib{name}.so");

    private static string Find()
    {
        var folder = Path.Combine(AppContext.BaseDirectory, FolderName);
        var instructions = Avx512BW.IsSupported && Avx512DQ.IsSupported && Avx512CD.IsSupported ? "avx512" : Avx2.IsSupported ? "avx2" : Avx.IsSupported ? "avx" : "noavx";
        var chosen = Path.Combine(folder, instructions);
        return Path.GetFullPath(Directory.Exists(chosen) ? chosen : folder);
    }

    private static string? Load()
    {
        var path = PathOf("llama");
        if (!File.Exists(path))
        {
            return $"there is no llama.cpp for this machine beside the program ({path})";
        }

        if (!TryLoad(path, out var reason))
        {
            return reason;
        }

        _ = NativeLibraryConfig.All.WithLibrary(path, null!);
        _ = NativeLibraryConfig.All.WithLogCallback(static (level, message) =>
        {
            if (level == LLamaLogLevel.Error)
            {
                lock (s_lock)
                {
                    s_errors.Add(message.Trim());
                }
            }
        });
        NativeApi.llama_empty_call();
        return null;
    }

    /// <summary>llama.cpp's first error message since the last call, which is the cause of later ones.</summary>
    internal static string? TakeError()
    {
        lock (s_lock)
        {
            var first = s_errors.FirstOrDefault();
            s_errors.Clear();
            return first;
        }
    }

    private static bool TryLoad(string path, out string? reason)
    {
        try
        {
            _ = NativeLibrary.Load(path);
            reason = null;
            return true;
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            reason = e.Message.Split('\n')[0];
            return false;
        }
    }
}
