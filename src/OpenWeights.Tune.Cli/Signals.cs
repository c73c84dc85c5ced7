using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Cli;

/// <summary>Ctrl-C and SIGTERM: once asks the work to finish what it is at and save, twice means now.</summary>
internal sealed class Signals : IDisposable
{
    private static readonly CancellationTokenSource s_stop = new();
    private readonly PosixSignalRegistration[] _registrations;
    private int _received;

    internal Signals()
    {
        ProcessEnd.RememberTerminal();
        _registrations = [PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle), PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle)];
    }

    /// <summary>Is cancelled by the first signal.</summary>
    internal static CancellationToken Stop => s_stop.Token;

    /// <summary>Whether a signal has come.</summary>
    internal bool HasCome => Volatile.Read(ref _received) > 0;

    /// <summary>What the first signal is answered with: what the work does next.</summary>
    internal static string Answer { get; set; } = "stopping";

    /// <summary>Takes Ctrl-C for itself, where it gives true; null for nobody.</summary>
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

        if (Interlocked.Increment(ref _received) > 1)
        {
            Console.Error.WriteLine("stopped at once.");
            ProcessEnd.AtOnce(ExitCode.Stopped);
        }

        // On a terminal the live line stands where this would go.
        Console.Error.WriteLine($"{(Console.IsErrorRedirected ? "" : "\n")}{Answer}; once more stops at once.");
        s_stop.Cancel();
    }
}
