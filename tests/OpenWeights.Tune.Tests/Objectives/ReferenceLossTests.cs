using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives;

/// <summary>Label smoothing against transformers' LabelSmoother, and the z-loss against its formula in torch.</summary>
[Category(TestDevice.Parity)]
public sealed class ReferenceLossTests
{
    [Test]
    public void Label_smoothing_is_transformers_with_its_gradients()
    {
        using var golden = new Golden("loss_label_smoothing", "adapters2026");
        Assert.That(golden.Runs, Is.Not.Empty);
        foreach (var (name, run) in golden.Runs)
        {
            Compare(golden, run, new ObjectiveSection { LabelSmoothing = run["epsilon"]!.GetValue<double>() }, name);
        }
    }

    [Test]
    public void The_z_loss_is_the_formula_with_its_gradients()
    {
        using var golden = new Golden("loss_z", "adapters2026");
        Compare(golden, golden.Json, new ObjectiveSection { ZLoss = golden.Json["z_coef"]!.GetValue<double>() }, "z");
    }

    private static void Compare(Golden golden, JsonNode run, ObjectiveSection settings, string name)
    {
        using var scope = NewDisposeScope();
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        foreach (var parameter in loaded.Model.parameters())
        {
            parameter.requires_grad = true;
        }

        static int[][] Rows(JsonNode rows) => [.. rows.AsArray().Select(static r => r!.AsArray().Select(static v => v!.GetValue<int>()).ToArray())];
        var (ids, labels, mask) = (Rows(run["input_ids"]!), Rows(run["labels"]!), Rows(run["attention_mask"]!));
        var batch = TokenBatch.Of([.. ids.Select((row, i) => new TokenRow(row[..mask[i].Sum()], labels[i][..mask[i].Sum()], "golden"))], padId: 0, TestDevice.Current);
        using Scalar share = 1.0 / batch.TargetCount;
        var loss = new SupervisedObjective(settings).LossSum(loaded.Model, batch).mul(share);
        Assert.That(loss.ToDouble(), Is.EqualTo(run["loss"]!.GetValue<double>()).Within(1e-5 * TestDevice.Slack), name);
        loss.backward();
        var gradients = loaded.Model.named_parameters().ToDictionary(static p => p.name, static p => p.parameter.grad!);
        foreach (var (parameter, norm) in run["grad_norms"]!.AsObject())
        {
            var expected = norm!.GetValue<double>();
            Assert.That(gradients[parameter].to(float64).norm().ToDouble(), Is.EqualTo(expected).Within(1e-5 * expected * TestDevice.Slack), $"{name} {parameter}");
        }
    }
}
