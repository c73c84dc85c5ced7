using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>The families of transformers 5, each a small model: logits, hidden states, losses, gradients, greedy tokens and a PEFT adapter against transformers in float32.</summary>
[Category(TestDevice.Parity)]
public sealed class Families2026Tests
{
    internal const string Set = "families2026";

    internal static IEnumerable<string> Cases => SharedFiles.FindNames("golden.json", "goldens", Set).Select(static n => Path.GetDirectoryName(n)!).Where(IsKnown).Order(StringComparer.Ordinal);

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Every_model_of_the_set_is_of_a_family_that_is_read() =>
        Assert.That(SharedFiles.FindNames("golden.json", "goldens", Set).Select(static n => Path.GetDirectoryName(n)!).Where(static n => !IsKnown(n)), Is.Empty);

    [TestCaseSource(nameof(Cases))]
    public void Logits_and_hidden_states_are_the_references(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        CompareLogits(golden, loaded.Model);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var states = HiddenStates(loaded.Model, Golden.Input(golden.Json["runs"]!["full"]!));

        // What layers read and the normalised states; of mamba2, what layers give and the normalised states; of several residual streams, what
        // layers read and what the last one gives.
        states.RemoveAt(loaded.Model.Config.Streams is not null ? states.Count - 1 : golden.Json["model_type"]!.ToString() == "mamba2" ? 0 : states.Count - 2);
        for (var i = 0; i < states.Count; i++)
        {
            var expected = golden.Tensor($"full.hidden.{i}");
            Assert.That(Golden.LargestDifference(states[i], expected), Is.LessThan(Tolerance(golden) * Math.Max(1, expected.abs().max().ToDouble())), $"hidden states {i}");
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void The_older_config_gives_the_same_logits(string name)
    {
        using var golden = new Golden(name, Set);
        if (!File.Exists(Path.Combine(golden.Folder, "config_v4.json")))
        {
            return;
        }

        using var folder = new TemporaryFolder();
        File.Copy(Path.Combine(golden.Folder, "config_v4.json"), folder.At("config.json"));
        File.Copy(Path.Combine(golden.Folder, "model.safetensors"), folder.At("model.safetensors"));
        using var loaded = ModelLoader.Load(folder.Root, float32, TestDevice.Current);
        CompareLogits(golden, loaded.Model);
    }

    [TestCaseSource(nameof(Cases))]
    public void Losses_and_gradients_are_the_references(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        foreach (var checkpointing in Enum.GetValues<ActivationCheckpointing>())
        {
            loaded.Model.Stack.ActivationCheckpointing = checkpointing;
            foreach (var parameter in loaded.Model.parameters())
            {
                parameter.requires_grad = true;
            }

            foreach (var (run, node) in golden.Runs)
            {
                using var scope = NewDisposeScope();
                loaded.Model.zero_grad();
                var loss = Golden.Loss(loaded.Model.Logits(loaded.Model.call(Golden.Input(node))), Golden.Ids(node["labels"]!));
                Assert.That(loss.ToDouble(), Is.EqualTo(node["loss"]!.GetValue<double>()).Within(1e-4).Percent, run);
                loss.backward();
                CompareGradients(golden, loaded.Model, run, node);
            }
        }
    }

    [TestCaseSource(nameof(Cases))]
    [Category(TestDevice.CpuAlone)]
    public void Greedy_tokens_are_the_references(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        var expected = golden.Json["generate"]!;
        int[] Ints(string key) => [.. expected[key]!.AsArray().Select(static v => v!.GetValue<int>())];
        var (prompt, output) = (Ints("prompt"), Ints("output"));
        var generator = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = output.Length });
        Assert.That(generator.Continue([prompt])[0].OutputIds, Is.EqualTo(output), "alone");
        Assert.That(generator.Continue([prompt[..3], prompt])[1].OutputIds, Is.EqualTo(output), "beside a shorter prompt");
    }

    [TestCaseSource(nameof(Cases))]
    public void PEFTs_adapter_has_the_references_logits_loss_and_gradients(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = ModelLoader.Load(golden.Folder, float32, TestDevice.Current);
        using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "lora"));
        using var scope = NewDisposeScope();
        var (run, expected) = (golden.Json["runs"]!["full"]!, golden.Json["lora"]!);
        var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(run)));
        Assert.That(Golden.LargestDifference(logits, golden.Tensor("lora.logits")), Is.LessThan(Tolerance(golden)));
        var loss = Golden.Loss(logits, Golden.Ids(run["labels"]!));
        Assert.That(loss.ToDouble(), Is.EqualTo(expected["loss"]!.GetValue<double>()).Within(1e-4).Percent);
        loss.backward();
        var norms = expected["grad_norms"]!.AsObject();
        Assert.That(adapter.Parameters, Has.Count.EqualTo(norms.Count));
        var total = Math.Sqrt(adapter.Parameters.Sum(static p => Math.Pow(p.Parameter.grad!.to(float64).norm().ToDouble(), 2)));
        Assert.That(total, Is.EqualTo(expected["grad_norm_total"]!.GetValue<double>()).Within(1e-2).Percent);
    }

    private static bool IsKnown(string name)
    {
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(SharedFiles.Require("goldens", Set, name), "config.json")))!;
        return FamilyRegistry.Knows(config.AsObject());
    }

#if TORCH_SYSTEM
    // Another libtorch with another BLAS, whose rounding the small models with linear attention enlarge most.
    private const double Roundings = 6;
#else
    private const double Roundings = 4;
#endif

    private static double Tolerance(Golden golden) => Math.Max(1e-4, Roundings * golden.Json["float64_max_diff"]!.GetValue<double>()) * TestDevice.Slack;

    private static void CompareLogits(Golden golden, CausalLanguageModel model)
    {
        using var nothing = no_grad();
        foreach (var (run, node) in golden.Runs)
        {
            using var scope = NewDisposeScope();
            var logits = model.Logits(model.call(Golden.Input(node)));
            Assert.That(Golden.LargestDifference(logits, golden.Tensor($"{run}.logits"), Golden.Ids(node["attention_mask"]!)), Is.LessThan(Tolerance(golden)), run);
        }
    }

    // The input of each layer, the last one's output, and the states behind the final norm.
    private static List<Tensor> HiddenStates(CausalLanguageModel model, ModelInput input)
    {
        var stack = model.Stack;
        var embeddings = stack.Embed(input.InputIds);
        var contexts = stack.Contexts(input, embeddings);
        var states = new List<Tensor> { stack.Open(embeddings) };
        foreach (var (index, layer) in stack.Layers.Index())
        {
            states.Add(layer.call(states[^1], contexts.Of(layer, index)));
        }

        states.Add(stack.Close(states[^1]));
        return states;
    }

    private static void CompareGradients(Golden golden, CausalLanguageModel model, string run, JsonNode node)
    {
        var parameters = model.named_parameters().ToDictionary(static p => p.name, static p => p.parameter);
        var norms = node["grad_norms"]!.AsObject();
        Assert.That(parameters.Keys, Is.EquivalentTo(norms.Select(static n => n.Key)));
        foreach (var (parameter, norm) in norms)
        {
            var (gradient, expected) = (parameters[parameter].grad!.to(float64), norm!.GetValue<double>());
            var slack = 1e-4 * Math.Max(expected, 1e-3) * TestDevice.Slack;
            Assert.That(gradient.norm().ToDouble(), Is.EqualTo(expected).Within(slack), $"{run} {parameter}");
            var weight = parameters[parameter].to(float64);
            Assert.That(
                gradient.mul(weight).sum().ToDouble(), Is.EqualTo(node["grad_dot_weight"]![parameter]!.GetValue<double>()).Within(slack * Math.Max(1, weight.norm().ToDouble())),
                $"{run} {parameter}, with the parameter itself");
            if (golden.Tensors.TryGetTensor($"{run}.grad.{parameter}", out _))
            {
                Assert.That(Golden.LargestDifference(gradient, golden.Tensor($"{run}.grad.{parameter}")), Is.LessThan(slack), $"{run} {parameter}");
            }
        }
    }
}
