using NUnit.Framework;
using OpenWeights.Tune.Cli.Launching;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt launch starts ranks, shows whose line is whose, and ends all with the exit code of the one that failed.</summary>
public sealed class LaunchTests
{
    [Test]
    public void Each_line_has_its_rank_and_all_ranks_run()
    {
        var lines = Owt.Run(".", 0, "launch", "--starter", "processes", "--ranks", "2", "--", "recipes", "list").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        var ranks = lines.GroupBy(static l => l[..3]).ToDictionary(static g => g.Key, static g => g.Select(static l => l[3..]).ToList());
        Assert.That(ranks.Keys, Is.EquivalentTo(new[] { "0: ", "1: " }));
        Assert.That(ranks["0: "], Is.EqualTo(ranks["1: "]).And.Some.Contains("qwen3-0.6b-lora"));
    }

    [Test]
    public void A_failure_is_told_once_with_the_exit_code_of_the_rank([Values("processes", "mpirun")] string starter)
    {
        if (starter == "mpirun" && !Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(static f => File.Exists(Path.Combine(f, "mpirun"))))
        {
            Assert.Ignore("mpirun is not installed (scripts/test installs openmpi-bin where it may)");
        }

        var error = Owt.Run(".", 2, "launch", "--starter", starter, "--ranks", "2", "--", "inspect", "not-there").Error;
        Assert.That(error, Does.Match("^[01]: error: not-there: no such file or folder.\n$"));
    }

    [Test]
    public void A_signal_comes_to_the_ranks_once_and_they_end()
    {
        using var work = new Workspace("max_steps: 100000, micro_batch_size: 2, gradient_accumulation_steps: 1, warmup_steps: 2, learning_rate: 1.0e-3");
        var owt = Owt.Start(work.Root, "launch", "--starter", "processes", "--ranks", "1", "--", "train", "train.yaml");
        owt.WaitForError("0: ");
        owt.WaitForError("step");
        owt.Signal("INT");
        Assert.That(owt.WaitForExit(), Is.EqualTo(130), owt.Error);
        Assert.That(owt.Error, Does.Contain("0: stopping after this step and saving").And.Contain("0: stopped; continue with --resume").And.Not.Contain("stopped at once"));
    }

    [TestCase("launch --ranks 2 -- trian x.yaml", "'trian' is none that can be launched")]
    [TestCase("launch --ranks 2 -- launch -- train x.yaml", "'launch' is none that can be launched")]
    [TestCase("launch --ranks 2", "COMMAND is missing")]
    [TestCase("launch --ranks 2 --nnodes 2 --master a -- train x.yaml", "which of the 2 machines is this?")]
    [TestCase("launch --ranks 2 --nnodes 2 --node-rank 2 --master a -- train x.yaml", "it must be at most 1")]
    [TestCase("launch --ranks 2 --nnodes 2 --node-rank 1 -- train x.yaml", "say where machine 0 is")]
    [TestCase("launch --ranks 2 --nnodes 2 --node-rank 1 --master a:x -- train x.yaml", "'x' is not a port")]
    [TestCase("launch --hosts a:2,b:2 --nnodes 2 -- train x.yaml", "leave out --nnodes")]
    [TestCase("launch --ranks 2 --nnodes 2 --starter mpirun -- train x.yaml", "use --hosts a:2,b:2 instead of --nnodes")]
    [TestCase("launch --hosts a:x -- train x.yaml", "'a:x' is no machine with its number of ranks")]
    [TestCase("launch --hosts a:2,b:0 -- train x.yaml", "'b:0' is no machine with its number of ranks")]
    [TestCase("launch --hosts , -- train x.yaml", "'' is no machine with its number of ranks")]
    [TestCase("launch --hosts a:2,b --ranks 4 -- train x.yaml", "--hosts a:2,b has room for 3 ranks, and --ranks asks for 4")]
    [TestCase("launch --ranks 2 --node-rank 1 -- train x.yaml", "say of how many machines this is one")]
    public void What_does_not_fit_together_is_told(string line, string told) => Assert.That(Owt.Run(".", 1, line.Split(' ')).Error, Does.Contain(told));

    [TestCase(true)]
    [TestCase(false)]
    public void How_a_rank_ended_is_told_instead_of_that_it_did_whichever_comes_first(bool isFirst)
    {
        const string how = "error: rank 2 (node1) was killed by signal 9: its machine ran out of memory (see dmesg), or somebody or the cluster ended it.";
        const string that = "error: rank 2 (node1) ended without a word: its process was killed or crashed, or its machine is gone.";
        var (errors, told) = (new RankErrors(), new List<string>());
        (isFirst ? new[] { how, that, that } : [that, how, that]).ToList().ForEach(line => errors.Add(line, told.Add, 0));
        Assert.That(errors.Any);
        errors.Release(long.MaxValue);
        Assert.That(told, Is.EqualTo(new[] { how }));
        Assert.That(errors.Signal, Is.EqualTo(9));
    }

    [Test]
    public void That_a_rank_ended_is_told_where_nobody_says_how_and_other_lines_at_once()
    {
        const string that = "error: rank 2 (node1) ended without a word: its process was killed or crashed, or its machine is gone.";
        var (errors, told) = (new RankErrors(), new List<string>());
        new[] { that, "step 3", that, "error: no such file.", "error: no such file.", "step 3" }.ToList().ForEach(line => errors.Add(line, told.Add, 1000));
        errors.Release(2000);
        Assert.That(told, Is.EqualTo(new[] { "step 3", "error: no such file.", "step 3" }));
        errors.Release(3000);
        Assert.That(told[^1], Is.EqualTo(that));
        Assert.That(errors.Signal, Is.Null);
    }

    [TestCase("[1,3]<stdout>:hello [x]", 3, "hello [x]")]
    [TestCase("[1,0]<stderr>: error: no", 0, "error: no")]
    [TestCase("[prterun-node1-77@1,12]<stdout>: hello", 12, "hello")]
    [TestCase("[2] hello", 2, "hello")]
    [TestCase("Primary job  terminated normally", null, "Primary job  terminated normally")]
    public void Lines_of_mpirun_are_told_apart(string line, int? rank, string text) => Assert.That(MpiStarter.Read(line), Is.EqualTo((rank, text)));

    [TestCase("mpirun (Open MPI) 4.1.4\n", MpiKind.OpenMpi, 4)]
    [TestCase("mpirun (Open MPI) 5.0.11\n", MpiKind.OpenMpi, 5)]
    [TestCase("HYDRA build details:\n    Version:                                 4.0.2\n", MpiKind.Hydra, 4)]
    [TestCase("Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240701", MpiKind.Intel, 2021)]
    public void An_mpirun_is_known_by_its_version(string version, object kind, int major)
    {
        var found = MpiStarter.Parse("mpirun", version)!;
        Assert.That((found.Kind, found.Major), Is.EqualTo(((MpiKind)kind, major)));
    }

    [Test]
    public void Ranks_of_several_machines_are_numbered_through()
    {
        var plan = new LaunchPlan(["train"], 4) { Machines = 2, Machine = 1, Master = "node0" };
        Assert.That(plan.VariablesOf(2), Is.EqualTo(new[] { ("RANK", "6"), ("LOCAL_RANK", "2") }));
        Assert.That(plan.Variables(static () => 0, "t"), Is.EqualTo(new[] { ("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4"), ("MASTER_ADDR", "node0"), ("MASTER_PORT", "29500") }));
    }
}
