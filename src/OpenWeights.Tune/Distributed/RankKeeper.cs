using System.Net;
using System.Runtime.InteropServices;
using OpenWeights.Tune.Distributed.Engines;

namespace OpenWeights.Tune.Distributed;

/// <summary>
/// Puts a shell between mpirun and a rank. It tells by which signal the rank ended, and ends some seconds later: an mpirun that sees the end of a rank kills all
/// others at once (MPICH's within a millisecond, whatever its options), before they can say which rank it was.
/// </summary>
internal static partial class RankKeeper
{
    /// <summary>Variable that says that a shell is there.</summary>
    internal const string Variable = "OWT_RANK_KEPT";

    private const string Shell = "/bin/sh";

    // How long the others may take to tell of a rank that failed.
    private const int Seconds = 3;

    /// <summary>Replaces this process by a shell that runs it again. Returns if it is not needed or not possible.</summary>
    /// <param name="environment">What this process was started as.</param>
    internal static void Enter(RankEnvironment environment)
    {
        if (!environment.IsOfMpi || environment.Size == 1 || !OperatingSystem.IsLinux() || !File.Exists(Shell) || Environment.GetEnvironmentVariable(Variable) is not null || OwnCommand() is not { } command)
        {
            return;
        }

        GlobalLibrary.SetVariable(Variable, "1");
        string?[] arguments = [Shell, "-c", Script(environment.Rank, Dns.GetHostName()), "owt", .. command, null];
        _ = execv(Shell, arguments);
    }

    /// <summary>What the shell runs; its arguments are the rank's command.</summary>
    /// <param name="rank">The rank.</param>
    /// <param name="host">Its host.</param>
    internal static string Script(int rank, string host)
    {
        // Signals are the rank's to answer. MPICH's mpirun sends one to all when a rank ends. The shell's own words on a signal are not shown.
        var cases = RankEnd.Sentences.Keys.Where(static s => s != 0).Select(s => $"{s}) say '{RankEnd.Sentence(rank, host, s)}' ;;");
        return $$"""
            trap : INT TERM
            trap '' USR1
            say() { echo "error: $1" >&2; }
            exec 3>&2 2>/dev/null
            ( exec 2>&3 3>&-; exec "$@" )
            code=$?
            exec 2>&3 3>&-
            if [ $code -gt 128 ] && [ $code -le 192 ] && [ $code -ne 130 ]; then
                signal=$((code - 128))
                case $signal in
                {{string.Join('\n', cases)}}
                *) say "rank {{rank}} ({{host}}) {{RankEnd.Sentences[0]}} $signal." ;;
                esac
            fi
            [ $code -eq 0 ] || [ $code -eq 130 ] || sleep {{Seconds}}
            exit $code
            """;
    }

    private static string[]? OwnCommand()
    {
        try
        {
            return Environment.ProcessPath is { } path ? [path, .. File.ReadAllText("/proc/self/cmdline").TrimEnd('\0').Split('\0').Skip(1)] : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int execv(string path, string?[] arguments);
}
