using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Cli;

/// <summary>
/// Ends the process immediately. Environment.Exit runs the exit handlers of native libraries, which free memory that other threads
/// still use: occasionally that causes a segmentation fault instead of the exit code.
/// </summary>
internal static unsafe partial class ProcessEnd
{
    private const int Input = 0;
    private const int Immediately = 0;

    // Larger than the terminal settings structure of any system.
    private static readonly byte[] s_terminal = new byte[512];
    private static bool s_hasTerminal;

    /// <summary>Saves the terminal settings at startup.</summary>
    internal static void RememberTerminal()
    {
        if (!OperatingSystem.IsWindows())
        {
            fixed (byte* settings = s_terminal)
            {
                s_hasTerminal = tcgetattr(Input, settings) == 0;
            }
        }
    }

    /// <summary>Restores the terminal and ends the process. Flushed files are kept; nothing else is done.</summary>
    /// <param name="code">The exit code.</param>
    internal static void AtOnce(int code)
    {
        Console.Out.Flush();
        Console.Error.Flush();
        if (!Console.IsErrorRedirected)
        {
            Console.Error.Write("\e[?25h");
        }

        if (OperatingSystem.IsWindows())
        {
            _ = TerminateProcess(-1, (uint)code);
            return;
        }

        if (s_hasTerminal)
        {
            fixed (byte* settings = s_terminal)
            {
                _ = tcsetattr(Input, Immediately, settings);
            }
        }

        _exit(code);
    }

    [LibraryImport("libc")]
    private static partial void _exit(int code);

    [LibraryImport("libc")]
    private static partial int tcgetattr(int file, byte* settings);

    [LibraryImport("libc")]
    private static partial int tcsetattr(int file, int when, byte* settings);

    [LibraryImport("kernel32")]
    private static partial int TerminateProcess(nint process, uint code);
}
