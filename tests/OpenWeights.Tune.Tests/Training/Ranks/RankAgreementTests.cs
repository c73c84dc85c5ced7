using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Tests.Distributed;
using OpenWeights.Tune.Tests.Distributed.Processes;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>Ranks that have read something else than the others end before the first step, all with the same sentence, which names them.</summary>
[TestFixture]
[Parallelizable(ParallelScope.Children)]
public sealed class RankAgreementTests
{
    [Test]
    public void Another_setting_is_refused() => RequireRefusal("the config is", static _ => { }, (RankTraining.OddSettingVariable, "training.learning_rate=0.5"));

    [Test]
    public void Other_data_is_refused() => RequireRefusal("the data is", static folder => TinyModel.WriteRows(folder, 9, Path.Combine("odd", "rows.jsonl"), seed: 5));

    [Test]
    public void Another_model_is_refused() => RequireRefusal("the model is", static folder =>
    {
        Directory.Delete(folder.At("odd", "model"), recursive: true);
        _ = TinyModel.Write(folder, Path.Combine("odd", "model"), seed: 3);
    });

    [Test]
    public void Tensors_that_differ_are_named([Range(0, 6)] int odd)
    {
        var sentences = Assert.Throws<AggregateException>(() => ThreadRanks.Run(3, group => RankAgreement.RequireEach(
            group, "the trained tensors", [.. Enumerable.Range(0, 7).Select(i => $"p{i} ({(i >= odd && group.Rank == 1 ? "BFloat16" : "Float32")}, [4])")])))!.InnerExceptions;
        Assert.That(sentences, Has.Count.EqualTo(3).And.All.TypeOf<RankFailedException>());
        Assert.That(sentences.Select(static s => s.Message), Has.All.EqualTo($"the trained tensors are not the same on all ranks: p{odd} (Float32, [4]) on ranks 0, 2 (here); p{odd} (BFloat16, [4]) on rank 1 (here)."));
    }

    [Test]
    public void A_tensor_that_a_rank_does_not_have_is_named()
    {
        var sentences = Assert.Throws<AggregateException>(() => ThreadRanks.Run(2, static group => RankAgreement.RequireEach(group, "the trained tensors", group.IsFirst ? ["a", "b"] : ["a"])))!.InnerExceptions;
        Assert.That(sentences.Select(static s => s.Message), Has.All.EqualTo("the trained tensors are not the same on all ranks: b on rank 0 (here); nothing on rank 1 (here)."));
    }

    [Test]
    public void What_is_the_same_is_accepted() => ThreadRanks.Run(3, static group => RankAgreement.RequireEach(group, "the trained tensors", ["a", "b"]));

    // The last rank works in a folder of its own, which the config names as the folder that a process is in.
    private static void RequireRefusal(string what, Action<TemporaryFolder> change, params (string Name, string Value)[] variables)
    {
        using var folder = new TemporaryFolder();
        foreach (var name in new[] { "all", "odd" })
        {
            _ = Directory.CreateDirectory(folder.At(name));
            _ = TinyModel.Write(folder, Path.Combine(name, "model"));
            _ = TinyModel.WriteRows(folder, 9, Path.Combine(name, "rows.jsonl"));
        }

        change(folder);
        var config = RankRun.Config(folder, "run") with
        {
            Model = new ModelSection { Path = "/proc/self/cwd/model", Device = "cpu" },
            Data = new DataSection { Train = [new DataSource { Path = "/proc/self/cwd/rows.jsonl" }], Packing = false },
        };
        using var processes = RankProcesses.Start("openmpi", 3, "train", [(RankTraining.ConfigVariable, folder.Write("run.yaml", ConfigWriter.Write(config))), (RankTraining.FolderVariable, folder.At("all")), (RankTraining.OddFolderVariable, folder.At("odd")), .. variables]);
        Assert.That(processes.WaitForExit(), Is.Not.Zero, processes.Output);
        Assert.That(processes.Output, Does.Match($@"error: {what} not the same on all ranks: .+ on ranks 0, 1 \({Environment.MachineName}\); .+ on rank 2 \({Environment.MachineName}\)\."));
        Assert.That(Directory.Exists(folder.At("run")), Is.False, "nothing was written");
    }
}
