using System.Globalization;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Preferences;

/// <summary>Whole runs on preferences, from a YAML file and rows of tokens to metrics.jsonl and the adapter, against TRL's trajectories.</summary>
[Category(TestDevice.Parity)]
public sealed class PreferenceRunTests
{
    private const string Set = "objectives";

    [TestCase("traj_dpo", "type: dpo, reference: base")]
    [TestCase("traj_kto", "type: kto, reference: base")]
    public void Twenty_steps_are_TRLs(string name, string objective)
    {
        using var golden = new Golden(name, Set);
        using var folder = new TemporaryFolder();
        var rows = Rows(golden.Json["batches"]!.AsArray()).ToList();
        var steps = golden.Json["steps"]!.AsArray();
        var perStep = rows.Count / golden.Json["batches"]!.AsArray().Count;
        Run(folder, golden, objective, rows, $"max_steps: {steps.Count}, micro_batch_size: {perStep}");
        var lines = Metrics(folder);
        Assert.That(lines, Has.Count.EqualTo(steps.Count));
        foreach (var (line, step) in lines.Zip(steps))
        {
            Assert.That(line["loss"]!.GetValue<double>(), Is.EqualTo(step!["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack), line["step"]!.ToJsonString());
            Assert.That(line["grad_norm"]!.GetValue<double>(), Is.EqualTo(step["grad_norm"]!.GetValue<double>()).Within(2e-3).Percent, line["step"]!.ToJsonString());
            foreach (var (metric, value) in step["metrics"]!.AsObject())
            {
                Assert.That(line[metric]!.GetValue<double>(), Is.EqualTo(value!.GetValue<double>()).Within(1e-4 * Math.Max(1, Math.Abs(value.GetValue<double>()))), metric);
            }
        }

        using var trained = SafetensorsFile.Open(Path.Combine(folder.Root, "out/adapter/adapter_model.safetensors"));
        foreach (var tensor in golden.Tensors.Tensors.Where(static t => t.Name.StartsWith("final.", StringComparison.Ordinal)))
        {
            using var scope = NewDisposeScope();
            Assert.That(Golden.LargestDifference(TensorFiles.Read(trained, tensor.Name["final.".Length..]), golden.Tensor(tensor.Name)), Is.LessThan(1e-5), tensor.Name);
        }
    }

    [TestCase("dpo_sigmoid", "type: dpo, reference: base")]
    [TestCase("dpo_mpo", "type: dpo, reference: base, loss_type: [sigmoid, bco_pair, sft], loss_weights: [0.8, 0.2, 1.0]")]
    [TestCase("orpo", "type: orpo")]
    [TestCase("cpo_simpo", "type: cpo, loss_type: simpo, beta: 2.0, cpo_alpha: 0")]
    [TestCase("kto", "type: kto, reference: base")]
    public void One_step_from_YAML_is_TRLs(string name, string objective)
    {
        using var golden = new Golden(name, Set);
        using var folder = new TemporaryFolder();
        var rows = golden.Json["examples"]!.AsArray().Select(static e => Line(e!)).ToList();
        Run(folder, golden, objective, rows, $"max_steps: 1, micro_batch_size: {rows.Count}");
        var line = Metrics(folder)[0];
        Assert.That(line["loss"]!.GetValue<double>(), Is.EqualTo(golden.Json["loss"]!.GetValue<double>()).Within(1e-3).Percent);
        Assert.That(line["grad_norm"]!.GetValue<double>(), Is.EqualTo(golden.Json["grad_norm_total"]!.GetValue<double>()).Within(1e-3).Percent);
    }

    [Test]
    public void A_run_compared_with_its_start_begins_at_the_logarithm_of_two()
    {
        using var golden = new Golden("dpo_sigmoid", Set);
        using var folder = new TemporaryFolder();
        Run(folder, golden, "type: dpo", [.. golden.Json["examples"]!.AsArray().Select(static e => Line(e!))], "max_steps: 6, micro_batch_size: 4");
        var losses = Metrics(folder).ConvertAll(static l => l["loss"]!.GetValue<double>());
        Assert.That(losses[0], Is.EqualTo(Math.Log(2)).Within(1e-6));
        Assert.That(losses[^1], Is.LessThan(losses[0]));
    }

    [Test]
    public void Full_fine_tuning_compares_with_the_model_as_it_was()
    {
        using var golden = new Golden("dpo_sigmoid", Set);
        using var folder = new TemporaryFolder();
        Run(folder, golden, "type: dpo", [.. golden.Json["examples"]!.AsArray().Select(static e => Line(e!))], "max_steps: 6, micro_batch_size: 4", adapter: false);
        var losses = Metrics(folder).ConvertAll(static l => l["loss"]!.GetValue<double>());
        Assert.That(losses[0], Is.EqualTo(Math.Log(2)).Within(1e-6));
        Assert.That(losses[^1], Is.LessThan(losses[0]));
    }

    private static void Run(TemporaryFolder folder, Golden golden, string objective, IReadOnlyList<string> rows, string training, bool adapter = true)
    {
        var @base = Path.GetFullPath(Path.Combine(golden.Folder, ".."));
        _ = folder.Write("rows.jsonl", string.Join('\n', rows) + "\n");
        var path = folder.Write("train.yaml", $$"""
            output_dir: '{{folder.Root}}/out'
            model: { path: '{{@base}}/model', dtype: float32, device: '{{TestDevice.Name}}' }
            {{(adapter ? $"adapter: {{ path: '{@base}/policy_adapter', any_base: true }}" : "")}}
            data: { train: rows.jsonl, shuffle: false, packing: false, max_length: 64 }
            objective: { {{objective}} }
            training: { {{training}}, learning_rate: 1.0e-3, lr_scheduler: constant, warmup_steps: 0, betas: [0.9, 0.999], eps: 1.0e-8, weight_decay: 0.01, max_grad_norm: 1.0 }
            evaluation: { generate_rows: 0 }
            """);
        using var run = TrainingRun.Prepare(RunConfigFile.Read(path, []), new SilentListener(), new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
    }

    private static List<JsonObject> Metrics(TemporaryFolder folder) =>
        [.. File.ReadAllLines(Path.Combine(folder.Root, "out/metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(static l => l["loss"] is not null)];

    private static string Line(JsonNode example)
    {
        var row = new JsonObject();
        foreach (var (key, name) in new[] { ("prompt", "prompt_ids"), ("chosen", "chosen_ids"), ("rejected", "rejected_ids"), ("completion", "completion_ids"), ("label", "label") })
        {
            if (example[key] is { } value)
            {
                row[name] = value.DeepClone();
            }
        }

        return row.ToJsonString();
    }

    // The rows of batches that were padded already; of pairs the chosen half comes first.
    private static IEnumerable<string> Rows(JsonArray batches)
    {
        foreach (var batch in batches)
        {
            static string Ids(IEnumerable<JsonNode?> ids) => $"[{string.Join(',', ids.Select(static i => i!.GetValue<int>().ToString(CultureInfo.InvariantCulture)))}]";
            var (ids, attention, completion) = (batch!["input_ids"]!.AsArray(), batch["attention_mask"]!.AsArray(), batch["completion_mask"]!.AsArray());
            string Part(int row, int wanted) => Ids(ids[row]!.AsArray().Where((_, t) => attention[row]![t]!.GetValue<int>() == 1 && completion[row]![t]!.GetValue<int>() == wanted));
            var isPairs = batch["label"] is null;
            for (var i = 0; i < (isPairs ? ids.Count / 2 : ids.Count); i++)
            {
                yield return isPairs
                    ? $$"""{"prompt_ids":{{Part(i, 0)}},"chosen_ids":{{Part(i, 1)}},"rejected_ids":{{Part(i + (ids.Count / 2), 1)}}}"""
                    : $$"""{"prompt_ids":{{Part(i, 0)}},"completion_ids":{{Part(i, 1)}},"label":{{batch["label"]![i]!.ToJsonString()}}}""";
            }
        }
    }
}
