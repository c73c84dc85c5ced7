using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>LoRA in all of the forms that PEFT 0.21 writes: logits, losses, gradients, greedy texts, merged weights, and the files themselves.</summary>
[Category(TestDevice.Parity)]
public sealed class Peft2026Tests
{
    private const string Set = "adapters2026";

    // A greedy token is compared only where the second best is further away than rounding.
    private const double SureMargin = 1e-3;

    private static IEnumerable<string> Cases => Present(static n => n.StartsWith("lora_", StringComparison.Ordinal) || n.StartsWith("tokens_", StringComparison.Ordinal));

    private static IEnumerable<string> Trained => Cases.Where(static n => !n.StartsWith("lora_v4_", StringComparison.Ordinal));

    private static IEnumerable<string> Generated => Trained.Where(static n =>
        SharedFiles.Find("goldens", Set, n, "golden.json") is not { } file || JsonNode.Parse(File.ReadAllText(file))!["generate"] is JsonObject);

    private static IEnumerable<string> Merged => Trained.Where(static n => n != "lora_alora");

    [TestCaseSource(nameof(Cases))]
    public void Logits_are_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        foreach (var (run, input) in Inputs(golden))
        {
            if (golden.Tensors.TryGetTensor($"{run}.logits", out _))
            {
                var logits = loaded.Model.Logits(loaded.Model.call(input.Input));
                Assert.That(Golden.LargestDifference(logits, golden.Tensor($"{run}.logits"), input.Mask), Is.LessThan(3e-5 * TestDevice.Slack), run);
            }
        }
    }

    [TestCaseSource(nameof(Trained))]
    public void Losses_and_gradients_are_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);

        // With left padding transformers predicts the first token from padding, which is undefined.
        foreach (var (runName, run) in golden.Runs.Where(static r => r.Run["attention_mask"]!.AsArray().All(static row => row![0]!.GetValue<int>() == 1)))
        {
            using var scope = NewDisposeScope();
            foreach (var (_, parameter) in adapter.Parameters)
            {
                parameter.grad?.zero_();
            }

            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(run)));
            var loss = Golden.Loss(logits, Golden.Ids(run["labels"]!));
            Assert.That(loss.ToDouble(), Is.EqualTo(run["loss"]!.GetValue<double>()).Within(1e-5).Percent.Or.EqualTo(run["loss"]!.GetValue<double>()).Within(1e-5), runName);
            if (run["grad_norms"] is not JsonObject norms)
            {
                continue;
            }

            loss.backward();
            var expected = norms.ToDictionary(static n => Saved(n.Key), static n => (n.Key, Norm: n.Value!.GetValue<double>()));
            foreach (var (parameter, tensor) in adapter.Parameters)
            {
                Compare(golden, adapter, runName, parameter, tensor.grad ?? zeros_like(tensor), expected);
            }

            Assert.That(expected.Keys, Is.Empty, "PEFT trains nothing else");
        }
    }

    [TestCaseSource(nameof(Generated))]
    public void Greedy_texts_are_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        var generate = golden.Json["generate"]!;
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        var output = generate["output"]![0]!.AsArray().Select(static t => t!.GetValue<int>()).ToList();
        var margins = generate["top2_margin"]!.AsArray().Select(static t => t!.GetValue<double>()).ToList();
        var found = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = output.Count }).Continue([generate["prompt"]![0]!.AsArray().Select(static t => t!.GetValue<int>()).ToArray()])[0];
        var sure = margins.TakeWhile(static m => m > SureMargin).Count();
        Assert.That(sure, Is.Positive);
        Assert.That(found.OutputIds.Take(sure), Is.EqualTo(output.Take(sure)));
    }

    [TestCaseSource(nameof(Merged))]
    public void The_merged_model_has_the_adapters_logits_and_PEFTs_weights_where_those_are_right(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using (var adapter = PeftFolder.Load(loaded.Model, golden.Folder))
        {
            _ = MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue);
        }

        using var merged = ModelLoader.Load(work.At("merged"), float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        foreach (var (run, input) in Inputs(golden).Where(i => golden.Tensors.TryGetTensor($"{i.Run}.logits", out _)))
        {
            var logits = merged.Model.Logits(merged.Model.call(input.Input));
            Assert.That(Golden.LargestDifference(logits, golden.Tensor($"{run}.logits"), input.Mask), Is.LessThan(5e-5 * TestDevice.Slack), run);
        }

        var isWrong = golden.Json["merged_note"] is not null;
        using var weights = merged.Folder.OpenWeights();
        if (!File.Exists(Path.Combine(golden.Folder, "merged.safetensors")))
        {
            // PEFT does not merge stacked layers.
            Assert.That(name, Is.EqualTo("lora_layer_replication"));
            return;
        }

        using var theirs = SafetensorsFile.Open(Path.Combine(golden.Folder, "merged.safetensors"));
        foreach (var tensor in theirs.Tensors.Where(t => !isWrong || !merged.Model.Config.Names.IsEmbeddingOrHead(t.Name.Replace(".weight", "", StringComparison.Ordinal))))
        {
            var stored = weights.TryGetTensor(tensor.Name, out _) ? tensor.Name : merged.Model.Config.Names.EmbeddingWeight;
            Assert.That(Golden.LargestDifference(TensorFiles.Read(weights, stored, float32), TensorFiles.Read(theirs, tensor.Name, float32)), Is.LessThan(2e-6), tensor.Name);
        }
    }

    [TestCaseSource(nameof(Trained))]
    [Category(TestDevice.CpuAlone)]
    public void An_adapter_that_is_read_and_written_again_has_the_same_bytes(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using (var adapter = PeftFolder.Load(loaded.Model, golden.Folder))
        {
            PeftFolder.Save(adapter, work.At("adapter"), "elsewhere");
        }

        using var ours = SafetensorsFile.Open(work.At("adapter", "adapter_model.safetensors"));
        using var theirs = SafetensorsFile.Open(Path.Combine(golden.Folder, "adapter_model.safetensors"));
        Assert.That(ours.Tensors.Select(static t => t.Name), Is.EqualTo(theirs.Tensors.Select(static t => t.Name)));
        foreach (var tensor in theirs.Tensors)
        {
            Assert.That(ours.ReadBytes(tensor.Name), Is.EqualTo(theirs.ReadBytes(tensor.Name)), tensor.Name);
        }

        var (written, given) = (JsonNode.Parse(File.ReadAllText(work.At("adapter", "adapter_config.json"))), JsonNode.Parse(File.ReadAllText(Path.Combine(golden.Folder, "adapter_config.json"))));
        Assert.That(written!.ToJsonString(), Is.EqualTo(given!.ToJsonString()));
    }

    [TestCaseSource(nameof(Trained))]
    [Category(TestDevice.CpuAlone)]
    public void Switched_off_the_model_is_the_base_again(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = ModelInput.Rows(Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!).clamp(max: loaded.Model.Config.VocabularySize - 1));
        var plain = loaded.Model.Logits(loaded.Model.call(ids));
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        adapter.Enabled = false;
        Assert.That(loaded.Model.Logits(loaded.Model.call(ids)).eq(plain).all().item<bool>());
    }

    internal static IEnumerable<string> Present(Func<string, bool> isWanted)
    {
        var names = SharedFiles.FindNames("golden.json", "goldens", Set).Select(static n => n.Split('/')[0]).Where(isWanted).ToList();
        return names.Count > 0 ? names : ["lora_regex_target"];
    }

    private static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);

    private static IEnumerable<(string Run, (ModelInput Input, Tensor? Mask) Input)> Inputs(Golden golden)
    {
        if (golden.Json["runs"] is null)
        {
            yield return ("full", (ModelInput.Rows(Golden.Ids(golden.Json["input_ids"]!)), null));
            yield break;
        }

        foreach (var (name, run) in golden.Runs)
        {
            yield return (name, (Golden.Input(run), Golden.Ids(run["attention_mask"]!)));
        }
    }

    // The reference keeps PEFT's live names, which have the adapter's name in them.
    private static string Saved(string live) => live.Replace("base_model.model.", "", StringComparison.Ordinal).Replace(".modules_to_save.default", "", StringComparison.Ordinal)
        .Replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector", StringComparison.Ordinal).Replace(".default", "", StringComparison.Ordinal);

    // Of a head that shares the embedding's matrices PEFT keeps the gradients apart, although the values are one.
    private static void Compare(Golden golden, PeftAdapter adapter, string run, string parameter, Tensor gradient, Dictionary<string, (string Key, double Norm)> expected)
    {
        Assert.That(expected.Remove(parameter, out var own), parameter);
        var head = adapter.KeepsTie && parameter.Contains("lora_embedding_", StringComparison.Ordinal)
            ? $"lm_head.lora_{(parameter.EndsWith("_A", StringComparison.Ordinal) ? "B" : "A")}.weight" : null;
        var other = head is not null && expected.Remove(head, out var found) ? found.Key : null;
        if (other is null)
        {
            Assert.That(gradient.norm().ToDouble(), Is.EqualTo(own.Norm).Within(2e-5 * TestDevice.Slack * Math.Max(1, own.Norm)), own.Key);
        }

        if (golden.Tensors.TryGetTensor($"{run}.grad.{own.Key}", out _))
        {
            var wanted = golden.Tensor($"{run}.grad.{own.Key}");
            wanted = other is null ? wanted : wanted.add(golden.Tensor($"{run}.grad.{other}").t());
            Assert.That(Golden.LargestDifference(gradient, wanted), Is.LessThan(2e-5 * TestDevice.Slack * Math.Max(1, own.Norm)), own.Key);
        }
    }
}
