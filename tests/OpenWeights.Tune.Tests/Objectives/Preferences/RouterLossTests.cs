using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Preferences;

/// <summary>The load balancing loss of a mixture of experts beside the losses of preferences.</summary>
public sealed class RouterLossTests
{
    private static readonly int[][] s_answers = [[5, 9, 17, 33, 11, 12, 13], [5, 9, 17, 33, 21, 22], [1, 2, 3, 7, 8, 40, 44, 9], [1, 2, 3, 50]];

    [TestCase("dpo")]
    [TestCase("orpo")]
    [TestCase("cpo")]
    [TestCase("kto")]
    [TestCase("bco")]
    public void It_adds_what_it_adds_to_supervised_training_for_each_pair_or_answer(string type)
    {
        const double Weight = 0.5;
        using var golden = new Golden("loss_router_qwen3_moe", "adapters2026");
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, CPU);
        using var scope = NewDisposeScope();
        var isPaired = type is "dpo" or "orpo" or "cpo";
        RowRole Role(int i) => (isPaired, i % 2) switch { (true, 0) => RowRole.Chosen, (true, _) => RowRole.Rejected, (_, 0) => RowRole.Desired, _ => RowRole.Undesired };
        List<TokenRow> rows = [.. s_answers.Select((a, i) => new TokenRow(a, [TokenRow.Ignored, TokenRow.Ignored, TokenRow.Ignored, .. a[3..]], "row") { Role = Role(i) })];
        using var objective = new Owned(ObjectiveKinds.Find(type).Create(new ObjectiveContext(new RunConfig { Objective = new ObjectiveSection { Type = type } }) { Reference = new Itself(loaded.Model) }));
        double Loss(double weight)
        {
            loaded.Model.RouterLossWeight = weight;
            using (no_grad())
            {
                _ = objective.Value.Begin(loaded.Model, [rows]);
            }

            return objective.Value.LossSum(loaded.Model, rows)!.ToDouble();
        }

        double Supervised(double weight, TokenBatch batch)
        {
            loaded.Model.RouterLossWeight = weight;
            return new SupervisedObjective().LossSum(loaded.Model, batch).ToDouble() / batch.TargetCount;
        }

        var batch = TokenBatch.Of(rows, padId: 0, CPU);
        var added = Supervised(Weight, batch) - Supervised(0, batch);
        Assert.That(added, Is.GreaterThan(0.1));
        Assert.That(Loss(Weight) - Loss(0), Is.EqualTo(added * (isPaired ? rows.Count / 2 : rows.Count)).Within(1e-4));
    }

    // A policy that is its own reference.
    private sealed class Itself(CausalLanguageModel model) : IReferencePolicy
    {
        public T Run<T>(Func<CausalLanguageModel, T> compute) => compute(model);

        public void Dispose()
        {
        }
    }

    private sealed class Owned(IObjective value) : IDisposable
    {
        internal IObjective Value => value;

        public void Dispose() => (value as IDisposable)?.Dispose();
    }
}
