using System.Globalization;
using System.Runtime.InteropServices;
using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt launch tells once which rank a signal ended, under any starter, has its exit code, and leaves a run that goes on.</summary>
public sealed partial class LaunchFaultTests
{
    private const string Settings = "max_steps: 100000, micro_batch_size: 2, warmup_steps: 2, learning_rate: 1.0e-3";

    [TestCase("openmpi", 2, 1, 9, "was killed by signal 9")]
    [TestCase("openmpi", 4, 0, 24, "was ended by signal 24")]
    [TestCase("mpich", 2, 0, 9, "was killed by signal 9")]
    [TestCase("mpich", 4, 3, 24, "was ended by signal 24")]
    public void A_rank_that_a_signal_ends_is_told_once_and_the_run_goes_on(string mpi, int ranks, int victim, int signal, string told)
    {
        var mpirun = Environment.GetEnvironmentVariable("PATH")!.Split(Path.PathSeparator).Select(f => Path.Combine(f, $"mpirun.{mpi}")).FirstOrDefault(File.Exists);
        if (mpirun is null)
        {
            Assert.Ignore($"mpirun.{mpi} is not installed (scripts/test installs openmpi-bin and mpich where it may)");
        }

        using var work = new Workspace(Settings);
        var shell = $"OWT_MPIRUN={mpirun} exec \"$@\"";
        string[] command = ["launch", "--ranks", $"{ranks}", "--", "train", "train.yaml"];
        var owt = Owt.StartInShell(work.Root, shell, command);
        owt.WaitForError("checkpoint written");
        Assert.That(kill(RankOf(victim, work.Root), signal), Is.Zero);
        Assert.That(owt.WaitForExit(), Is.EqualTo(128 + signal), owt.Error);
        Assert.That(Errors(owt), Has.Count.EqualTo(1).And.All.Contains($"{victim}: error: rank {victim} ({Environment.MachineName}) {told}"), owt.Error);

        var saved = Directory.GetDirectories(work.At("run", "checkpoints"), "step-*").Max(static d => long.Parse(d[^8..], CultureInfo.InvariantCulture));
        var more = Owt.RunInShell(work.Root, shell, 0, [.. command, "--resume", $"training.max_steps={saved + 4}"]);
        Assert.That(Errors(more), Is.Empty);
        Assert.That(Directory.GetFileSystemEntries(work.At("run"), ".*.tmp*", SearchOption.AllDirectories), Is.Empty, "nothing half-written stays");
    }

    [Test]
    public void A_rank_that_is_a_process_of_the_launcher_is_told_too()
    {
        using var work = new Workspace(Settings);
        var owt = Owt.Start(work.Root, "launch", "--starter", "processes", "--ranks", "1", "--", "train", "train.yaml");
        owt.WaitForError("checkpoint written");
        Assert.That(kill(RankOf(0, work.Root), 9), Is.Zero);
        Assert.That(owt.WaitForExit(), Is.EqualTo(137), owt.Error);
        Assert.That(Errors(owt), Has.Count.EqualTo(1).And.All.StartsWith($"0: error: rank 0 ({Environment.MachineName}) was killed by signal 9: its machine ran out of memory"));
    }

    private static List<string> Errors(Owt owt) => [.. owt.Error.Split('\n').Where(static l => l.Contains("error:", StringComparison.Ordinal))];

    // The process of a rank that works in a folder, and not the shell that started it.
    private static int RankOf(int rank, string folder) => Directory.GetDirectories("/proc").Select(static d => (Folder: d, Id: int.TryParse(Path.GetFileName(d), CultureInfo.InvariantCulture, out var id) ? id : 0))
        .Single(p => p.Id > 0 && Text($"{p.Folder}/environ").Split('\0').Any(v => v == $"OMPI_COMM_WORLD_RANK={rank}" || v == $"PMI_RANK={rank}" || v == $"RANK={rank}")
            && Text($"{p.Folder}/cmdline").Split('\0') is var words && !words[0].EndsWith("/sh", StringComparison.Ordinal) && words.Contains("train.yaml")
            && Directory.ResolveLinkTarget($"{p.Folder}/cwd", returnFinalTarget: true)?.FullName == folder).Id;

    private static string Text(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has just ended.
            return "";
        }
    }

    [LibraryImport("libc")]
    private static partial int kill(int process, int signal);
}
