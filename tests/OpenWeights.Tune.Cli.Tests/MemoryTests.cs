using System.Text.Json.Nodes;
using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>What a run needs and what there is, before anything is lost.</summary>
public sealed class MemoryTests
{
    private const string Group = "/sys/fs/cgroup/memory";

    [Test]
    public void A_run_that_does_not_fit_is_refused_with_the_least_change_that_does()
    {
        using var work = Large();
        var refused = Owt.Run(work.Root, 1, "train", "large.yaml");
        Assert.That(refused.Error, Does.Match(@"error: .*needs about .* GiB.*training\.micro_batch_size=\d+ training\.gradient_accumulation_steps=\d+.*--force"));
        Assert.That(refused.Error, Does.Not.Contain("reading the model"));
        Assert.That(Directory.Exists(work.At("run")), Is.False);
        var settings = System.Text.RegularExpressions.Regex.Match(refused.Error, @"fits: (\S+) (\S+) \(").Groups;
        Assert.That(Owt.Run(work.Root, 0, "train", "large.yaml", "--dry-run", settings[1].Value, settings[2].Value).Error, Does.Not.Contain("warning: the run needs"));
        var dry = Owt.Run(work.Root, 0, "train", "large.yaml", "--dry-run");
        Assert.That(dry.Error, Does.Contain("warning: the run needs"));
        Assert.That(dry.Output, Does.Match(@"\d [KMG]i?B of this machine's memory are free|control group.* are free"));
        var validate = Owt.Run(work.Root, 1, "validate", "large.yaml").Error;
        Assert.That(validate.Split(" (about")[0].Split(", and ")[0], Is.EqualTo(refused.Error.Split('\n').First(static l => l.StartsWith("error: ", StringComparison.Ordinal)).Split(", and ")[0]), "in train's words");
        Assert.That(validate, Does.Contain("--force").And.Contain("training.micro_batch_size="));
        Owt.Run(work.Root, 0, "validate", "large.yaml", settings[1].Value, settings[2].Value);
        var estimate = Owt.Run(work.Root, 0, "estimate", "large.yaml", "--json").Json[0];
        Assert.That(estimate["fits"]!.GetValue<bool>(), Is.False);
        Assert.That(estimate["change"]!.AsArray(), Is.Not.Empty);
        Assert.That(estimate["available"]!.GetValue<long>(), Is.LessThan(estimate["peak"]!.GetValue<long>()));
    }

    [Test]
    public void A_control_groups_limit_counts()
    {
        var group = Path.Combine(Group, $"owt-tests-{Environment.ProcessId}");
        try
        {
            _ = Directory.CreateDirectory(group);
            File.WriteAllText(Path.Combine(group, "memory.limit_in_bytes"), $"{500L << 20}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Assert.Ignore($"control groups of version 1 cannot be made here: {e.Message}");
        }

        try
        {
            using var work = Large();
            string[] settings = ["training.micro_batch_size=2000"];
            var shell = $"echo $$ > {group}/cgroup.procs && exec \"$@\"";
            var refused = Owt.RunInShell(work.Root, shell, 1, ["train", "large.yaml", .. settings]);
            Assert.That(refused.Error, Does.Contain("the 500 MiB limit of this process's control group").And.Contain("training.micro_batch_size="));
            Assert.That(Owt.RunInShell(work.Root, shell, 0, "doctor").Output, Does.Contain("control group of this process is limited to 500 MiB"));
        }
        finally
        {
            Directory.Delete(group);
        }
    }

    [Test]
    public void Config_json_is_enough_for_an_estimate_and_measuring_takes_the_weights()
    {
        using var work = new Workspace();
        var whole = Owt.Run(work.Root, 0, "estimate", "train.yaml", "--json").Json[0];
        var measured = Owt.Run(work.Root, 0, "estimate", "train.yaml", "--measure", "--json").Json[0];
        Assert.That(measured["measured_peak"]!.GetValue<long>(), Is.GreaterThan(20L << 20));
        Assert.That(measured["run_seconds"]!.GetValue<double>(), Is.EqualTo(12 * measured["seconds_per_step"]!.GetValue<double>()).Within(1e-9).And.GreaterThan(0));
        var text = Owt.Run(work.Root, 0, "estimate", "train.yaml", "--measure");
        Assert.That(text.Output, Does.Contain("a step").And.Contain("the run"));
        Assert.That(text.Error.Split('\n').Count(static l => l == "reading the data ..."), Is.EqualTo(1), "the data is read once");
        Assert.That(Directory.Exists(work.At("run")), Is.False, "nothing is written");
        File.Delete(work.At("model", "model.safetensors"));
        foreach (var path in new[] { "model", "model/config.json" })
        {
            var alone = Owt.Run(work.Root, 0, "estimate", "train.yaml", $"model.path={path}", "--json").Json[0];
            Assert.That(new[] { "weights", "adapter", "optimizer", "activations", "peak" }.Select(k => alone[k]!.ToJsonString()), Is.EqualTo(new[] { "weights", "adapter", "optimizer", "activations", "peak" }.Select(k => whole[k]!.ToJsonString())));
        }

        // Texts need a tokenizer, which says how long they are.
        work.Write("texts.jsonl", new JsonObject { ["text"] = "so long" }.ToJsonString());
        var unknown = Owt.Run(work.Root, 0, "estimate", "train.yaml", "data.train=[{path: texts.jsonl}]", "--json");
        Assert.That(unknown.Error, Does.Contain("no tokenizer").And.Contain("data.max_length"));
        Assert.That(unknown.Json[0]["activations"]!.GetValue<long>(), Is.GreaterThan(whole["activations"]!.GetValue<long>()));
        Owt.Run(work.Root, 2, "train", "train.yaml", "--dry-run");
    }

    private static Workspace Large()
    {
        var work = new Workspace();
        work.Write("many.jsonl", string.Join('\n', Enumerable.Range(0, 60).Select(static r => $"{{\"input_ids\": [{string.Join(',', Enumerable.Range(0, 200).Select(i => (i * (r + 7)) % 300))}]}}")));
        work.Write("large.yaml", """
            output_dir: run
            model: { path: model, device: cpu }
            adapter: { r: 4 }
            data: { train: [ { path: many.jsonl, repeat: 1000 } ], packing: false }
            training: { max_steps: 1, micro_batch_size: 60000 }
            """);
        return work;
    }
}
