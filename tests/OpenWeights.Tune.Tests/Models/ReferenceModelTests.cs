using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Families;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>Logits, losses and gradients against transformers in float32.</summary>
[Category(TestDevice.Parity)]
internal sealed class ReferenceModelTests
{
    private static readonly IEnumerable<string> s_cases = Golden.Present(
        "llama", "llama_mha", "llama_tied", "llama_bias", "llama_head_dim", "llama_rope_llama3", "llama_rope_linear", "llama_rope_dynamic", "llama_rope_yarn",
        "llama_rope_yarn_noorig", "mistral_head_dim", "mistral_sliding", "qwen2", "qwen2_tied", "qwen3", "gemma", "gemma2", "phi3", "phi3_sliding", "mixtral");

    [TestCaseSource(nameof(s_cases))]
    [Category(TestDevice.CpuAlone)]
    public void Logits_are_the_references(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        foreach (var (run, node) in golden.Runs)
        {
            var mask = Golden.Ids(node!["attention_mask"]!);
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(node)));
            var difference = Golden.LargestDifference(logits, golden.Tensor($"{run}.logits"), mask);
            Assert.That(difference, Is.LessThan(3e-5 * TestDevice.Slack), run);
        }
    }

    [TestCaseSource(nameof(s_cases))]
    public void Losses_and_gradients_are_the_references(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        TrainAll(loaded);
        foreach (var (run, node) in golden.Runs)
        {
            using var scope = NewDisposeScope();
            loaded.Model.zero_grad();
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(node!)));
            var loss = Golden.Loss(logits, Golden.Ids(node!["labels"]!));
            Assert.That(loss.ToDouble(), Is.EqualTo(node["loss"]!.GetValue<double>()).Within(1e-5).Percent.Or.EqualTo(node["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack), run);
            loss.backward();
            CompareGradients(golden, loaded, run, node["grad_norms"]!.AsObject());
        }
    }

    [TestCaseSource(nameof(s_cases))]
    [Category(TestDevice.CpuAlone)]
    public void Greedy_tokens_are_the_references(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        var expected = golden.Json["generate"]!;
        int[] Ints(string key) => [.. expected[key]![0]!.AsArray().Select(static v => v!.GetValue<int>())];
        var generated = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 16 }).Continue([Ints("prompt")])[0];
        Assert.That(generated.OutputIds, Is.EqualTo(Ints("output")));
    }

    [TestCaseSource(nameof(s_cases))]
    public void Supervised_losses_and_gradients_are_the_references(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        TrainAll(loaded);
        foreach (var (run, node) in golden.Runs.Where(static r => r.Name != "left_padded"))
        {
            foreach (var checkpointing in Enum.GetValues<ActivationCheckpointing>())
            {
                using var scope = NewDisposeScope();
                loaded.Model.zero_grad();
                loaded.Model.Stack.ActivationCheckpointing = checkpointing;
                var batch = Batch(node);
                using Scalar share = 1.0 / batch.TargetCount;
                var loss = new SupervisedObjective().LossSum(loaded.Model, batch).mul(share);
                loss.backward();
                Assert.That(batch.TargetCount, Is.EqualTo(node["num_target_tokens"]!.GetValue<int>()));
                Assert.That(loss.ToDouble(), Is.EqualTo(node["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack), run);
                CompareGradients(golden, loaded, run, node["grad_norms"]!.AsObject());
            }
        }
    }

    [Test]
    public void The_routers_balance_loss_is_the_references([Values] ActivationCheckpointing checkpointing)
    {
        using var golden = new Golden("mixtral");
        using var folder = new TemporaryFolder();
        foreach (var file in new[] { "config.json", "model.safetensors" })
        {
            File.Copy(Path.Combine(golden.Folder, file), folder.At(file));
        }

        File.WriteAllText(folder.At("config.json"), File.ReadAllText(folder.At("config.json")).Replace("\"output_router_logits\": false", "\"output_router_logits\": true", StringComparison.Ordinal));
        using var loaded = ModelLoader.Load(folder.Root, float32, TestDevice.Current);
        TrainAll(loaded);
        loaded.Model.Stack.ActivationCheckpointing = checkpointing;
        using var scope = NewDisposeScope();
        var batch = Batch(golden.Json["runs"]!["full"]!);
        using Scalar share = 1.0 / batch.TargetCount;
        var loss = new SupervisedObjective().LossSum(loaded.Model, batch).mul(share);
        loss.backward();
        var expected = golden.Json["runs"]!["full_with_aux"]!;
        Assert.That(loss.ToDouble(), Is.EqualTo(expected["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack));
        CompareGradients(golden, loaded, "full_with_aux", expected["grad_norms"]!.AsObject());
    }

    private static void TrainAll(LoadedModel loaded)
    {
        foreach (var parameter in loaded.Model.parameters())
        {
            parameter.requires_grad = true;
        }
    }

    [TestCase("mixtral")]
    [TestCase("qwen3_moe")]
    [TestCase("gpt_oss")]
    public void The_routers_loss_on_request_is_the_references_also_beside_padding(string name)
    {
        using var golden = new Golden($"loss_router_{name}", "adapters2026");
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        TrainAll(loaded);
        foreach (var (run, node) in golden.Runs)
        {
            using var scope = NewDisposeScope();
            loaded.Model.zero_grad();
            loaded.Model.RouterLossWeight = node["router_aux_loss_coef"]!.GetValue<double>();
            var batch = Batch(node);
            using Scalar share = 1.0 / batch.TargetCount;
            var loss = new SupervisedObjective().LossSum(loaded.Model, batch).mul(share);
            Assert.That(loss.ToDouble(), Is.EqualTo(node["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack), run);
            loss.backward();
            var gradients = loaded.Model.named_parameters().ToDictionary(static p => p.name, static p => p.parameter.grad!);
            foreach (var (parameter, norm) in node["grad_norms"]!.AsObject())
            {
                var expected = norm!.GetValue<double>();
                Assert.That(gradients[parameter].to(float64).norm().ToDouble(), Is.EqualTo(expected).Within(1e-5 * Math.Max(1, expected) * TestDevice.Slack), $"{run} {parameter}");
            }
        }
    }

    private static void CompareGradients(Golden golden, LoadedModel loaded, string run, JsonObject norms)
    {
        var gradients = Gradients(loaded.Model);
        Assert.That(gradients.Keys, Is.EquivalentTo(norms.Select(static n => n.Key)));
        foreach (var (parameter, norm) in norms)
        {
            var gradient = gradients[parameter];
            var expected = norm!.GetValue<double>();
            var actual = gradient.to(float64).norm().ToDouble();
            Assert.That(actual, Is.EqualTo(expected).Within(1e-5 * expected * TestDevice.Slack), $"{run} {parameter}");
            if (golden.Tensors.TryGetTensor($"{run}.grad.{parameter}", out _))
            {
                var difference = Golden.LargestDifference(gradient, golden.Tensor($"{run}.grad.{parameter}"));
                Assert.That(difference, Is.LessThan(1e-5 * Math.Max(1, expected) * TestDevice.Slack), $"{run} {parameter}");
            }
        }
    }

    // By the names, and in the pieces, of the family's checkpoints, which the parameters had when these numbers were computed.
    private static Dictionary<string, Tensor> Gradients(CausalLanguageModel model) => model.named_parameters()
        .SelectMany(p => (FamilyTable.Find(model.Config.ModelType)!.Layout?.PartsOf(p.name, p.parameter.shape) ?? [new StoredPart(p.name, p.parameter.shape, 0)])
            .Select(part => (part.Name, p.parameter.grad!.view(-1).narrow(0, part.First, part.Shape.Aggregate(1L, static (product, size) => product * size)).view([.. part.Shape]))))
        .ToDictionary();

    private static TokenBatch Batch(JsonNode node)
    {
        static int[][] Rows(JsonNode rows) => [.. rows.AsArray().Select(static r => r!.AsArray().Select(static v => v!.GetValue<int>()).ToArray())];
        var (ids, labels, mask) = (Rows(node["input_ids"]!), Rows(node["labels"]!), Rows(node["attention_mask"]!));
        return TokenBatch.Of([.. ids.Select((row, i) => new TokenRow(row[..mask[i].Sum()], labels[i][..mask[i].Sum()], "golden"))], padId: 0, TestDevice.Current);
    }
}
