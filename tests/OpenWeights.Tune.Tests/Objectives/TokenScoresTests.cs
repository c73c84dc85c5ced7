using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives;

/// <summary>The reported losses against float64.</summary>
public sealed class TokenScoresTests
{
    [Test]
    public void An_eval_loss_loses_nothing_to_the_rounding_of_sums()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), dtype: null, Devices.Find("cpu"));
        using var scope = NewDisposeScope();
        var random = new Random(5);
        var rows = Enumerable.Range(0, 64).Select(_ =>
        {
            int[] ids = [.. Enumerable.Range(0, 128).Select(_ => random.Next(TinyModel.Vocabulary))];
            return new TokenRow(ids, ids, [ids.Length], "a row");
        }).ToList();
        var batch = TokenBatch.Of(rows, padId: 0, CPU);
        var (loss, correct) = TokenScores.Of(loaded.Model, batch);

        using var nothing = no_grad();
        var hidden = loaded.Model.call(batch.Input);
        var logits = loaded.Model.Logits(hidden.view(-1, hidden.size(2)).index_select(0, batch.Sources)).to(float64);
        var expected = logits.log_softmax(-1).gather(1, batch.Targets.unsqueeze(1)).sum().neg().ToDouble();
        Assert.That(batch.TargetCount, Is.EqualTo(64 * 127));
        Assert.That(loss, Is.EqualTo(expected).Within(1e-9 * expected));
        Assert.That(correct, Is.EqualTo(logits.argmax(1).eq(batch.Targets).sum().ToInt64()));
    }
}
