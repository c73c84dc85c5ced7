using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>What the program says of data.</summary>
public sealed class DataTests
{
    [Test]
    public void Runs_that_start_at_once_share_one_cache_and_see_the_same_rows()
    {
        using var work = Work(rows: 3000);
        string[] arguments = ["data", "preview", "train.yaml", "--json", "--rows", "2", "data.cache=on", "data.cache_dir=cache"];
        var all = Enumerable.Range(0, 3).Select(_ => Owt.Start(work.Root, arguments)).ToList();
        Assert.That(all.Select(static o => o.WaitForExit()), Is.All.Zero, string.Join('\n', all.Select(static o => o.Error)));
        Assert.That(all.Select(static o => o.Output), Is.All.EqualTo(all[0].Output));
        Assert.That(all[0].Json.Single()["rows"]!.GetValue<int>(), Is.EqualTo(3000));
        Assert.That(Directory.GetFileSystemEntries(work.At("cache")).Select(static f => Path.GetExtension(f)), Is.EqualTo(new[] { ".rows" }));
    }

    [Test]
    public void Bench_data_tells_how_many_bytes_a_core_makes_tokens_of()
    {
        using var work = Work(rows: 200);
        var result = Owt.Run(work.Root, 0, "bench", "data", "--tokenizer", "model", "--input", "rows.jsonl").Json.Single();
        Assert.That(result["rows"]!.GetValue<int>(), Is.EqualTo(200));
        Assert.That(result["file_bytes"]!.GetValue<long>(), Is.EqualTo(new FileInfo(work.At("rows.jsonl")).Length));
        var rate = result["file_bytes"]!.GetValue<double>() / 1e6 / result["processor_seconds"]!.GetValue<double>();
        Assert.That(result["megabytes_per_second_per_core"]!.GetValue<double>(), Is.EqualTo(rate).Within(0.02 + (0.2 * rate)));
    }

    private static TemporaryFolder Work(int rows)
    {
        var work = new TemporaryFolder();
        _ = work.Write("rows.jsonl", string.Concat(Enumerable.Range(0, rows).Select(static i => new JsonObject { ["text"] = $"row {i} of {i * 7919 % 1009} words" }.ToJsonString() + "\n")));
        Owt.Run(work.Root, 0, "init", "--vocab-size", "300", "--tokenizer-data", "rows.jsonl", "--output", "model");
        _ = work.Write("train.yaml", "output_dir: run\nmodel: { path: model }\ndata: { train: [ { path: rows.jsonl } ], max_length: 128 }\ntraining: { max_steps: 1 }\n");
        return work;
    }
}
