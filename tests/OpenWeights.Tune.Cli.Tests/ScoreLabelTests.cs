using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt score with reward models and classifiers, against TRL and transformers.</summary>
public sealed class ScoreLabelTests
{
    [Test]
    public void Rewards_and_classes_are_those_of_the_references_models()
    {
        using var work = new TemporaryFolder();
        var (folder, json) = Golden("reward_lora");
        File.WriteAllLines(work.At("pairs.jsonl"), json["examples"]!.AsArray().Select(static e => $$"""{"prompt_ids":[],"chosen_ids":{{e!["chosen"]!.ToJsonString()}},"rejected_ids":{{e["rejected"]!.ToJsonString()}}}"""));
        var pairs = Owt.Run(work.Root, 0, "score", "--rewards", "--model", Path.Combine(folder, json["model"]!.ToString()), "--adapter", Path.Combine(folder, json["policy_adapter"]!.ToString()), "--input", "pairs.jsonl").Json;
        Assert.That(pairs.Select(static p => p["chosen"]!.GetValue<double>()), Is.EqualTo(Numbers(json["rows"]!["rewards_chosen"]!)).Within(1e-5));
        Assert.That(pairs.Select(static p => p["rejected"]!.GetValue<double>()), Is.EqualTo(Numbers(json["rows"]!["rewards_rejected"]!)).Within(1e-5));

        (folder, json) = Golden("classification");
        File.WriteAllLines(work.At("texts.jsonl"), json["examples"]!.AsArray().Select(static e => $$"""{"input_ids":{{e!["input_ids"]!.ToJsonString()}}}"""));
        var model = Path.Combine(folder, json["model"]!.ToString());
        var classes = Owt.Run(work.Root, 0, "score", "--labels", "--model", model, "--input", "texts.jsonl").Json;
        var logits = json["rows"]!["logits"]!.AsArray().Select(static l => Numbers(l!)).ToList();
        Assert.That(classes.Select(static c => Numbers(c["logits"]!)), Is.EqualTo(logits).Within(1e-5));
        Assert.That(classes.Select(static c => c["label"]!.ToString()), Is.EqualTo(logits.Select(static l => $"LABEL_{Array.IndexOf(l, l.Max())}")));
        Assert.That(Owt.Run(work.Root, 2, "score", "--rewards", "--model", model, "--input", "texts.jsonl").Error, Does.Contain("Use --labels"));
    }

    private static (string Folder, JsonNode Json) Golden(string name)
    {
        var folder = SharedFiles.Require("goldens", "objectives", name);
        return (folder, JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "golden.json")))!);
    }

    private static double[] Numbers(JsonNode list) => [.. list.AsArray().Select(static v => v!.GetValue<double>())];
}
