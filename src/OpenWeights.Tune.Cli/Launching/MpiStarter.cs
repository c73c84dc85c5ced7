using System.Diagnostics;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Cli.Launching;

/// <summary>The mpirun of an installed MPI: a rank's MPI finds the others only where its own mpirun started it.</summary>
/// <param name="Path">The program.</param>
/// <param name="Kind">Whose it is.</param>
/// <param name="Major">Its major version; 0 if unknown.</param>
internal sealed partial record MpiStarter(string Path, MpiKind Kind, int Major)
{
    /// <summary>Variable with the path of mpirun.</summary>
    internal const string PathVariable = "OWT_MPIRUN";

    // Beyond this machine mpirun passes on only what it is told to.
    private static readonly string[] s_passed = ["OMP_NUM_THREADS", "LD_LIBRARY_PATH", "LIBTORCH", "PATH", "TERM", "HOME"];

    /// <summary>Finds mpirun.</summary>
    /// <exception cref="NotSupportedException">There is none.</exception>
    internal static MpiStarter Find()
    {
        var chosen = Environment.GetEnvironmentVariable(PathVariable);
        string[] names = chosen is { Length: > 0 } ? [chosen] : ["mpirun", "mpiexec", "mpiexec.hydra"];
        foreach (var name in names)
        {
            if (Locate(name) is { } path && Version(path) is { } version && Parse(path, version) is { } starter)
            {
                return starter;
            }
        }

        throw new NotSupportedException(chosen is { Length: > 0 }
            ? $"{PathVariable} is {chosen}, which is no mpirun of Open MPI, MPICH or Intel MPI."
            : $"ranks on CPUs are started by mpirun, which is not here. On Debian and Ubuntu: sudo apt-get install openmpi-bin; or set {PathVariable} to its path. (Ranks on GPUs need none: --starter processes.)");
    }

    /// <summary>What an mpirun is, by what it says of its version; null for something else.</summary>
    internal static MpiStarter? Parse(string path, string version)
    {
        var kind = version.Contains("Open MPI", StringComparison.Ordinal) || version.Contains("OpenRTE", StringComparison.Ordinal) || version.Contains("PRTE", StringComparison.OrdinalIgnoreCase) ? MpiKind.OpenMpi
            : version.Contains("Intel(R) MPI", StringComparison.Ordinal) ? MpiKind.Intel
            : version.Contains("HYDRA", StringComparison.OrdinalIgnoreCase) ? MpiKind.Hydra
            : (MpiKind?)null;
        return kind is { } found ? new MpiStarter(path, found, MajorNumber().Match(version) is { Success: true } number ? int.Parse(number.Groups[1].ValueSpan, System.Globalization.CultureInfo.InvariantCulture) : 0) : null;
    }

    /// <summary>The arguments that start ranks.</summary>
    /// <param name="plan">Which.</param>
    /// <param name="variables">Names of all variables of the environment.</param>
    internal IEnumerable<string> Arguments(LaunchPlan plan, IEnumerable<string> variables) =>
    [
        "-n", $"{plan.LocalRanks}",
        .. Kind == MpiKind.OpenMpi ? OfOpenMpi(plan, variables) : OfHydra(plan),
    ];

    /// <summary>A line of mpirun's output: of which rank it is (null for mpirun's own), and what the rank said.</summary>
    internal static (int? Rank, string Text) Read(string line)
    {
        // Open MPI: [1,0]<stdout>:text, from version 5 [name@1,0]<stdout>: text. MPICH and Intel MPI: [0] text.
        var match = OpenMpiLine().Match(line) is { Success: true } open ? open : HydraLine().Match(line);
        return match.Success ? (int.Parse(match.Groups[1].ValueSpan, System.Globalization.CultureInfo.InvariantCulture), match.Groups[2].Value) : (null, line);
    }

    private IEnumerable<string> OfOpenMpi(LaunchPlan plan, IEnumerable<string> variables)
    {
        // Each rank has several threads, and there may be more ranks than cores. Ranks that fail get time to say why.
        string[] usual = ["--bind-to", "none", "--oversubscribe", .. Major >= 5 ? ["--output", "tag"] : new[] { "--tag-output", "--mca", "odls_base_sigkill_timeout", "3" }];
        return plan.Hosts is null
            ? usual
            : [.. usual, "-H", plan.Hosts, .. variables.Where(IsPassed).Order(StringComparer.Ordinal).SelectMany(static name => new[] { "-x", name })];
    }

    // MPICH's would kill all ranks as soon as one has died, before they have said which it was.
    private IEnumerable<string> OfHydra(LaunchPlan plan) =>
    [
        "-prepend-rank",
        .. Kind == MpiKind.Hydra ? ["-disable-auto-cleanup"] : Array.Empty<string>(),
        .. plan.Hosts is null ? Array.Empty<string>() : ["-hosts", plan.Hosts],
    ];

    private static bool IsPassed(string name) => s_passed.Contains(name) || name.StartsWith("OWT_", StringComparison.Ordinal) || name.StartsWith("HF_", StringComparison.Ordinal);

    private static string? Locate(string name) => name.Contains('/', StringComparison.Ordinal)
        ? File.Exists(name) ? name : null
        : (Environment.GetEnvironmentVariable("PATH") ?? "").Split(System.IO.Path.PathSeparator).Where(static f => f.Length > 0).Select(folder => System.IO.Path.Combine(folder, name)).FirstOrDefault(File.Exists);

    private static string? Version(string path)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(path, "--version") { RedirectStandardOutput = true, RedirectStandardError = true })!;
            var error = process.StandardError.ReadToEndAsync();
            return process.StandardOutput.ReadToEnd() + error.Result;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }

    [GeneratedRegex(@"(\d+)\.\d")]
    private static partial Regex MajorNumber();

    [GeneratedRegex(@"^\[(?:[^\]]*,)?(\d+)\]<std(?:out|err)>: ?(.*)$")]
    private static partial Regex OpenMpiLine();

    [GeneratedRegex(@"^\[(\d+)\] (.*)$")]
    private static partial Regex HydraLine();
}

/// <summary>Whose mpirun it is.</summary>
internal enum MpiKind
{
    /// <summary>Open MPI's.</summary>
    OpenMpi,

    /// <summary>Hydra, MPICH's.</summary>
    Hydra,

    /// <summary>Intel MPI's.</summary>
    Intel,
}
