using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Labels;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Labels;

/// <summary>Reward models and classifiers on a fixed batch, against TRL's RewardTrainer and transformers.</summary>
[Category(TestDevice.Parity)]
public sealed class LabelGoldenTests
{
    private const string Set = "objectives";

    private static IEnumerable<string> Cases =>
        SharedFiles.FindNames("golden.json", "goldens", Set).Select(static n => n.Split('/')[0]).Where(static n => n.Split('_')[0] is "reward" or "classification").DefaultIfEmpty("reward");

    [TestCaseSource(nameof(Cases))]
    public void Losses_gradients_and_metrics_are_the_references(string name) => Check(name, microBatch: int.MaxValue);

    [TestCase("reward_margin_center")]
    [TestCase("reward_lora")]
    [TestCase("classification")]
    public void Several_micro_batches_give_the_loss_gradient_and_metrics_of_one(string name) => Check(name, microBatch: 2);

    private static void Check(string name, int microBatch)
    {
        using var golden = new Golden(name, Set);
        var folder = Path.Combine(golden.Folder, golden.Json["model"]!.ToString());
        var adapterFolder = golden.Json["policy_adapter"] is { } given ? Path.Combine(golden.Folder, given.ToString()) : null;
        using ITrainedModel trained = Trained(folder, adapterFolder);
        var rows = Rows(golden.Json).ToList();
        var objective = Objective(golden.Json);
        var (loss, metrics) = Step(objective, trained.Model, [.. rows.Chunk(microBatch)]);
        Assert.That(loss, Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack));
        Assert.That(Math.Sqrt(trained.Parameters.Sum(static p => Math.Pow(p.Parameter.grad!.norm().ToDouble(), 2))), Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(1e-3).Percent);
        foreach (var parameter in trained.Parameters)
        {
            var expected = golden.Tensor("grad." + (adapterFolder is null ? parameter.Name : Named(parameter.Name)));
            Assert.That(Golden.LargestDifference(parameter.Parameter.grad!, expected), Is.LessThan(1e-5 * golden.Json["grad_norm_total"]!.GetValue<double>() * TestDevice.Slack), parameter.Name);
        }

        foreach (var (metric, value) in golden.Json["metrics"]!.AsObject())
        {
            Assert.That(metrics[metric], Is.EqualTo(value!.GetValue<double>()).Within(1e-5 * TestDevice.Slack), metric);
        }

        // The same numbers from the class that scores texts, whose order is not that of their lengths.
        var scores = new LabelScorer(trained.Model, new RowTokenizer(folder, "all"), batchSize: 3).Scores([.. rows.Select(static r => r.Ids)]);
        var wanted = golden.Json["rows"]!;
        var flat = wanted["logits"] is { } logits ? logits.AsArray().Select(static l => l!.AsArray().Select(static v => v!.GetValue<double>()).ToArray())
            : wanted["rewards_chosen"]!.AsArray().Zip(wanted["rewards_rejected"]!.AsArray()).SelectMany(static p => new[] { p.First!, p.Second! }).Select(static v => new[] { v.GetValue<double>() });
        Assert.That(scores.SelectMany(static s => s), Is.EqualTo(flat.SelectMany(static s => s)).Within(1e-5 * TestDevice.Slack));
    }

    private static ITrainedModel Trained(string folder, string? adapter)
    {
        var loaded = ModelLoader.Load(folder, float32, TestDevice.Current);
        return adapter is null ? new FullTraining(loaded, decayNormsAndBiases: true) : new AdapterTraining(loaded, PeftFolder.Load(loaded.Model, adapter, anyBase: true));
    }

    // PEFT's name in memory of a parameter.
    private static string Named(string file) => "base_model.model." + (file.StartsWith("score.", StringComparison.Ordinal)
        ? file.Replace("score.", "score.modules_to_save.default.", StringComparison.Ordinal)
        : file.Replace(".weight", ".default.weight", StringComparison.Ordinal));

    private static IObjective Objective(JsonObject golden) => golden["kind"]!.GetValue<string>() == "reward"
        ? new RewardObjective(golden["hyper"]!["center_rewards_coefficient"]?.GetValue<double>())
        : new ClassificationObjective(0);

    private static IEnumerable<TokenRow> Rows(JsonObject golden)
    {
        static int[] Ids(JsonNode? node) => [.. node!.AsArray().Select(static v => v!.GetValue<int>())];
        static TokenRow Row(JsonNode? node, RowRole role, double margin = 0) => new(Ids(node), Ids(node), "row") { Role = role, Margin = margin };
        return golden["examples"]!.AsArray().SelectMany(static e => e!["input_ids"] is { } ids
            ? [Row(ids, RowRole.Classified) with { Label = e["label"]!.ToJsonString() }]
            : new[] { Row(e["chosen"], RowRole.Chosen, e["margin"]?.GetValue<double>() ?? 0), Row(e["rejected"], RowRole.Rejected) });
    }

    private static (double Loss, IReadOnlyDictionary<string, double> Metrics) Step(IObjective objective, CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        long units;
        using (no_grad())
        {
            units = objective.Begin(model, batches);
        }

        var loss = 0.0;
        foreach (var rows in batches)
        {
            using var scope = NewDisposeScope();
            var sum = objective.LossSum(model, rows)!.div(units);
            sum.backward();
            loss += sum.ToDouble();
        }

        return (loss, objective.End());
    }
}
