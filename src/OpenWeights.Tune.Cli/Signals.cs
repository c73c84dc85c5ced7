using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Cli;

/// <summary>
/// Handles Ctrl-C and SIGTERM: the first asks the program to finish the current step and save, the second stops it immediately.
/// </summary>
internal sealed class Signals : IDisposable
{
    private static readonly CancellationTokenSource s_stop = new();
    private static int s_received;
    private readonly PosixSignalRegistration[] _registrations;

    internal Signals()
    {
        ProcessEnd.RememberTerminal();
        _registrations = [PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle), PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle)];
    }

    /// <summary>Cancelled by the first signal.</summary>
    internal static CancellationToken Stop => s_stop.Token;

    /// <summary>Whether a signal was received.</summary>
    internal static bool HasCome => Received > 0;

    /// <summary>Number of signals received.</summary>
    internal static int Received => Volatile.Read(ref s_received);

    /// <summary>Whether the last was SIGTERM.</summary>
    internal static bool IsTerminating { get; private set; }

    /// <summary>Whether a second signal does not stop this program at once: it is passed on to others, for which this program waits.</summary>
    internal static bool IsPassedOn { get; set; }

    /// <summary>Message shown after the first signal: what the program does next.</summary>
    internal static string Answer { get; set; } = "stopping";

    /// <summary>Handles Ctrl-C instead if it returns true; null for none.</summary>
    internal static Func<bool>? Interrupted { get; set; }

    public void Dispose()
    {
        foreach (var registration in _registrations)
        {
            registration.Dispose();
        }
    }

    private void Handle(PosixSignalContext context)
    {
        context.Cancel = true;
        if (context.Signal == PosixSignal.SIGINT && Interrupted?.Invoke() == true)
        {
            return;
        }

        IsTerminating = context.Signal == PosixSignal.SIGTERM;
        if (Interlocked.Increment(ref s_received) > 1)
        {
            if (IsPassedOn)
            {
                return;
            }

            Console.Error.WriteLine("stopped at once.");
            ProcessEnd.AtOnce(ExitCode.Stopped);
        }

        // Avoids overwriting the updating line on a terminal.
        Console.Error.WriteLine($"{(Console.IsErrorRedirected ? "" : "\n")}{Answer}; press again to stop immediately.");
        s_stop.Cancel();
    }
}
