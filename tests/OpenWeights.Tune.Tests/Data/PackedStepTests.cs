using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>A step over packed rows is the step over the rows.</summary>
[Category(TestDevice.Parity)]
public sealed class PackedStepTests
{
    [Test]
    public void The_loss_and_gradients_of_packed_rows_are_those_of_each_row_alone()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        var model = loaded.Model;
        foreach (var (_, parameter) in model.named_parameters())
        {
            parameter.requires_grad_(true);
        }

        var random = new Random(11);
        var rows = Enumerable.Range(0, 20).Select(i =>
        {
            var ids = Enumerable.Range(0, random.Next(2, 30)).Select(_ => random.Next(TinyModel.Vocabulary)).ToArray();
            return new TokenRow(ids, [.. ids.Select((id, at) => at % 3 == 0 && at > 1 ? TokenRow.Ignored : id)], $"row {i}");
        }).ToList();
        IReadOnlyList<TokenRow> packed = [.. Packer.Bins([.. rows.Select(static r => r.Ids.Length)], 64).Select(bin => Packer.Join([.. bin.Select(i => rows[i])]))];
        Assert.That(packed, Has.Count.LessThan(rows.Count));
        using var scope = NewDisposeScope();
        double Loss(IReadOnlyList<TokenRow> batch)
        {
            var loss = new SupervisedObjective().LossSum(model, TokenBatch.Of(batch, padId: 0, TestDevice.Current));
            loss.backward();
            return loss.ToDouble();
        }

        var together = Loss(packed);
        var gradients = model.named_parameters().Select(static p => p.parameter.grad!.clone()).ToList();
        model.zero_grad();
        var alone = rows.Sum(r => Loss([r]));
        Assert.That(together, Is.EqualTo(alone).Within(1e-6 * alone));
        foreach (var ((name, parameter), gradient) in model.named_parameters().Zip(gradients))
        {
            Assert.That(Golden.LargestDifference(gradient, parameter.grad!), Is.LessThan(1e-6 * parameter.grad!.norm().ToDouble()), name);
        }
    }
}
