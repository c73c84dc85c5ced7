using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Preferences;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Preferences;

/// <summary>Losses, gradients and metrics of preference objectives on a fixed batch, against TRL 1.16's trainers.</summary>
[Category(TestDevice.Parity)]
public sealed class PreferenceGoldenTests
{
    private const string Set = "objectives";

    // TRL averages these over every position of ORPO and CPO, padding included; here they are means over the answers.
    private static readonly string[] s_otherMeans = ["logits/chosen", "logits/rejected"];

    private static readonly string[] s_kinds = ["dpo", "orpo", "cpo", "kto"];

    private static IEnumerable<string> Cases =>
        SharedFiles.FindNames("golden.json", "goldens", Set).Select(static n => n.Split('/')[0]).Where(static n => s_kinds.Contains(n.Split('_')[0])).DefaultIfEmpty("dpo_sigmoid");

    [TestCaseSource(nameof(Cases))]
    public void Losses_gradients_and_metrics_are_TRLs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, "..", "model"), float32, TestDevice.Current);
        using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "..", "policy_adapter"), anyBase: true);
        using var reference = new AdapterOffReference(adapter);
        var objective = Objective(golden.Json, reference);
        var rows = Rows(golden.Json);
        var (loss, metrics) = Step(objective, loaded, [rows]);
        Assert.That(loss, Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5 * Math.Max(1, Math.Abs(loss)) * TestDevice.Slack));
        Assert.That(Norm(adapter), Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(1e-3).Percent);
        foreach (var (parameter, tensor) in adapter.Parameters)
        {
            var expected = golden.Tensor("grad.base_model.model." + parameter.Replace(".weight", ".default.weight", StringComparison.Ordinal));
            Assert.That(Golden.LargestDifference(tensor.grad!, expected), Is.LessThan(1e-5 * Math.Max(1, Norm(adapter)) * TestDevice.Slack), parameter);
        }

        foreach (var (metric, value) in golden.Json["metrics"]!.AsObject().Where(m => golden.Json["kind"]!.GetValue<string>() is "dpo" or "kto" || !s_otherMeans.Contains(m.Key)))
        {
            Assert.That(metrics, Contains.Key(metric));
            Assert.That(metrics[metric], Is.EqualTo(value!.GetValue<double>()).Within(2e-5 * Math.Max(1, Math.Abs(value.GetValue<double>())) * TestDevice.Slack), metric);
        }
    }

    [TestCase("dpo_sigmoid")]
    [TestCase("dpo_mpo")]
    [TestCase("orpo")]
    [TestCase("cpo_sigmoid")]
    [TestCase("kto")]
    public void Several_micro_batches_give_the_loss_and_gradient_of_one(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, "..", "model"), float32, TestDevice.Current);
        using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "..", "policy_adapter"), anyBase: true);
        using var reference = new AdapterOffReference(adapter);
        var rows = Rows(golden.Json);
        var objective = Objective(golden.Json, reference);
        var (loss, _) = Step(objective, loaded, [.. rows.Chunk(2).Select(static c => c.ToArray())]);
        Assert.That(loss, Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5).Percent.Or.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5));
        Assert.That(Norm(adapter), Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(1e-3).Percent);
    }

    [Test]
    public void BCO_shifts_by_the_mean_of_the_rewards_so_far()
    {
        using var golden = new Golden("bco", Set);
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, "..", "model"), float32, TestDevice.Current);
        using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "..", "policy_adapter"), anyBase: true);
        using var reference = new AdapterOffReference(adapter);
        var objective = new BcoObjective(0.1, reference);
        var loss = 0.0;
        foreach (var batch in golden.Json["batches"]!.AsArray())
        {
            foreach (var (_, parameter) in adapter.Parameters)
            {
                parameter.grad?.zero_();
            }

            // A run that resumes here goes on with the same mean.
            var state = objective.State;
            objective = new BcoObjective(0.1, reference) { State = state };
            (loss, _) = Step(objective, loaded, [BatchRows(batch!["batch"]!)]);
        }

        Assert.That(loss, Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-5));
        Assert.That(Norm(adapter), Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(1e-3).Percent);
    }

    private static (double Loss, IReadOnlyDictionary<string, double> Metrics) Step(IObjective objective, LoadedModel loaded, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        long units;
        using (no_grad())
        {
            units = objective.Begin(loaded.Model, batches);
        }

        var loss = 0.0;
        foreach (var rows in batches)
        {
            using var scope = NewDisposeScope();
            var sum = objective.LossSum(loaded.Model, rows)!.div(units);
            sum.backward();
            loss += sum.ToDouble();
        }

        return (loss, objective.End());
    }

    private static double Norm(PeftAdapter adapter) => Math.Sqrt(adapter.Parameters.Sum(static p => Math.Pow(p.Parameter.grad!.norm().ToDouble(), 2)));

    private static IObjective Objective(JsonObject golden, IReferencePolicy reference)
    {
        var hyper = golden["hyper"]!.AsObject();
        double Number(string key, double otherwise = 0) => hyper[key]?.GetValue<double>() ?? otherwise;
        switch (golden["kind"]!.GetValue<string>())
        {
            case "orpo":
                return new OrpoObjective(Number("beta"));
            case "cpo":
                return new CpoObjective(new CpoSettings
                {
                    Loss = hyper["loss_type"]!.GetValue<string>(),
                    Beta = Number("beta"),
                    LabelSmoothing = Number("label_smoothing"),
                    LikelihoodWeight = Number("cpo_alpha"),
                    Gamma = Number("simpo_gamma"),
                    Alpha = Number("alpha"),
                });
            case "kto":
                return new KtoObjective(
                    new KtoSettings { Loss = hyper["loss_type"]!.GetValue<string>(), Beta = Number("beta"), DesirableWeight = Number("desirable_weight"), UndesirableWeight = Number("undesirable_weight") },
                    reference);
            default:
                var types = hyper["loss_type"]!.AsArray().Select(static t => t!.GetValue<string>()).ToList();
                var weights = hyper["loss_weights"]?.AsArray().Select(static w => w!.GetValue<double>()).ToList();
                return new DpoObjective(
                    new DpoSettings
                    {
                        Losses = [.. types.Select((t, i) => (t, weights?[i] ?? 1))],
                        Pair = new PairLossSettings
                        {
                            Beta = Number("beta"),
                            LabelSmoothing = Number("label_smoothing"),
                            Divergence = hyper["f_divergence_type"]!.GetValue<string>(),
                            AlphaDivergence = Number("f_alpha_divergence_coef"),
                            DiscoPopTau = Number("discopop_tau"),
                        },
                        LengthAlpha = hyper["ld_alpha"]?.GetValue<double>(),
                        UseWeighting = hyper["use_weighting"]!.GetValue<bool>(),
                    },
                    reference);
        }
    }

    private static List<TokenRow> Rows(JsonObject golden)
    {
        static int[] Ids(JsonNode? node) => [.. node!.AsArray().Select(static v => v!.GetValue<int>())];
        var length = golden["hyper"]!["max_length"]!.GetValue<int>();
        TokenRow Row(int[] prompt, int[] answer, RowRole role)
        {
            int[] ids = [.. prompt, .. answer];
            var kept = Math.Min(length, ids.Length);
            int[] labels = [.. Enumerable.Repeat(TokenRow.Ignored, prompt.Length), .. answer];
            return new TokenRow(ids[..kept], labels[..kept], "row") { Role = role };
        }

        var rows = new List<TokenRow>();
        foreach (var example in golden["examples"]!.AsArray())
        {
            var prompt = Ids(example!["prompt"]);
            rows.AddRange(example["label"] is { } label
                ? [Row(prompt, Ids(example["completion"]), label.GetValue<bool>() ? RowRole.Desired : RowRole.Undesired)]
                : [Row(prompt, Ids(example["chosen"]), RowRole.Chosen), Row(prompt, Ids(example["rejected"]), RowRole.Rejected)]);
        }

        return rows;
    }

    private static List<TokenRow> BatchRows(JsonNode batch)
    {
        int[][] Lists(string key) => [.. batch[key]!.AsArray().Select(static r => r!.AsArray().Select(static v => v!.GetValue<int>()).ToArray())];
        var (ids, attention, completion) = (Lists("input_ids"), Lists("attention_mask"), Lists("completion_mask"));
        return
        [
            .. ids.Select((row, i) => new TokenRow(
                [.. row.Where((_, t) => attention[i][t] == 1)],
                [.. row.Select((id, t) => completion[i][t] == 1 ? id : TokenRow.Ignored).Where((_, t) => attention[i][t] == 1)],
                "row") { Role = batch["label"]![i]!.GetValue<bool>() ? RowRole.Desired : RowRole.Undesired }),
        ];
    }
}
