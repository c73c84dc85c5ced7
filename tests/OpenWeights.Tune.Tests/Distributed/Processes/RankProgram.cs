using System.Runtime.InteropServices;
using OpenWeights.Tune.Distributed;

namespace OpenWeights.Tune.Tests.Distributed.Processes;

/// <summary>
/// The program that tests start as several processes: dotnet OpenWeights.Tune.Tests.dll SCENARIO. The test platform does not call it.
/// </summary>
internal static partial class RankProgram
{
    /// <summary>Exit code of a rank that ends with a sentence.</summary>
    internal const int FailedCode = 3;

    private static int Main(string[] arguments)
    {
        try
        {
            RankStart.Prepare();
            using var group = RankStart.Join(usesGpu: arguments.Contains("--gpu"));
            RankScenarios.Run(group, arguments[0]);
            return 0;
        }
        catch (Exception e)
        {
            Console.Error.WriteLine($"error: {(e is RankFailedException ? e.Message : e)}");
            Console.Error.Flush();

            // Threads of MPI may be in the middle of something.
            _exit(FailedCode);
            return FailedCode;
        }
    }

    [LibraryImport("libc")]
    private static partial void _exit(int code);
}
