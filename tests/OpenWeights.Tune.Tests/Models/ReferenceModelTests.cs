using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>Logits, losses and gradients against transformers in float32.</summary>
public sealed class ReferenceModelTests
{
    private static readonly string[] s_cases =
        ["llama", "llama_mha", "llama_tied", "llama_bias", "llama_head_dim", "llama_rope_llama3", "llama_rope_linear", "llama_rope_dynamic", "llama_rope_yarn", "llama_rope_yarn_noorig"];

    [TestCaseSource(nameof(s_cases))]
    public void Logits_are_the_references(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(golden.Folder, float32, CPU);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        foreach (var (run, node) in golden.Json["runs"]!.AsObject())
        {
            var mask = Golden.Ids(node!["attention_mask"]!);
            var logits = loaded.Model.Logits(loaded.Model.call(Input(node)));
            Assert.That(Golden.LargestDifference(logits, golden.Tensor($"{run}.logits"), mask), Is.LessThan(3e-5), run);
        }
    }

    [TestCaseSource(nameof(s_cases))]
    public void Losses_and_gradients_are_the_references(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(golden.Folder, float32, CPU);
        foreach (var parameter in loaded.Model.parameters())
        {
            parameter.requires_grad = true;
        }

        foreach (var (run, node) in golden.Json["runs"]!.AsObject())
        {
            using var scope = NewDisposeScope();
            loaded.Model.zero_grad();
            var logits = loaded.Model.Logits(loaded.Model.call(Input(node!)));
            var labels = Golden.Ids(node!["labels"]!);
            var tokens = labels.size(1);
            var loss = nn.functional.cross_entropy(
                logits.narrow(1, 0, tokens - 1).reshape(-1, logits.size(2)), labels.narrow(1, 1, tokens - 1).reshape(-1));
            Assert.That(loss.ToDouble(), Is.EqualTo(node["loss"]!.GetValue<double>()).Within(1e-5).Percent.Or.EqualTo(node["loss"]!.GetValue<double>()).Within(1e-5), run);
            loss.backward();
            if (node["grad_norms"] is not JsonObject norms)
            {
                continue;
            }

            foreach (var (parameter, norm) in norms)
            {
                var gradient = loaded.Model.named_parameters().Single(p => p.name == parameter).parameter.grad!;
                var expected = norm!.GetValue<double>();
                Assert.That(gradient.to(float64).norm().ToDouble(), Is.EqualTo(expected).Within(1e-5 * expected), $"{run} {parameter}");
                if (golden.Tensors.TryGetTensor($"{run}.grad.{parameter}", out _))
                {
                    Assert.That(Golden.LargestDifference(gradient, golden.Tensor($"{run}.grad.{parameter}")), Is.LessThan(1e-5 * Math.Max(1, expected)), $"{run} {parameter}");
                }
            }
        }
    }

    private static ModelInput Input(JsonNode node)
    {
        var ids = Golden.Ids(node["input_ids"]!);
        var mask = Golden.Ids(node["attention_mask"]!);
        var leftPadded = mask.select(1, 0).eq(0).any().ToBoolean();
        if (!leftPadded)
        {
            return ModelInput.Rows(ids);
        }

        var positions = node["position_ids"] is { } given ? Golden.Ids(given) : mask.cumsum(1).sub(1).clamp_min(0);
        return new ModelInput { InputIds = ids, PositionIds = positions, LongestPosition = positions.max().ToInt64(), Documents = mask };
    }
}
