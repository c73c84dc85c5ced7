using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Layers.Experts;
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
        using var loaded = Load();
        using var scope = NewDisposeScope();
        var (rows, units) = Rows(type);
        using var objective = Create(type, loaded.Model);
        var batch = TokenBatch.Of(rows, padId: 0, CPU);
        double Supervised(double weight) => SupervisedLoss(loaded.Model, batch, weight).ToDouble() / batch.TargetCount;
        var added = Supervised(Weight) - Supervised(0);
        Assert.That(added, Is.GreaterThan(0.1));
        Assert.That(Loss(objective, loaded.Model, rows, Weight).ToDouble() - Loss(objective, loaded.Model, rows, 0).ToDouble(), Is.EqualTo(added * units).Within(1e-4));
    }

    [TestCase("dpo")]
    [TestCase("orpo")]
    [TestCase("cpo")]
    [TestCase("kto")]
    [TestCase("bco")]
    public void Its_value_and_gradient_are_those_of_transformers_formula(string type)
    {
        const double Weight = 0.5;
        using var loaded = Load();
        using var scope = NewDisposeScope();
        var (rows, units) = Rows(type);
        using var objective = Create(type, loaded.Model);
        var parameters = loaded.Model.named_parameters().Where(static p => p.name.EndsWith("mlp.gate.weight", StringComparison.Ordinal) || p.name.EndsWith("q_proj.weight", StringComparison.Ordinal)).ToList();
        Assert.That(parameters, Is.Not.Empty);
        foreach (var (_, parameter) in parameters)
        {
            parameter.requires_grad = true;
        }

        (double Value, List<Tensor> Gradients) Of(Tensor loss)
        {
            foreach (var (_, parameter) in parameters)
            {
                parameter.grad = null;
            }

            loss.backward();
            return (loss.ToDouble(), parameters.ConvertAll(static p => p.parameter.grad!.clone()));
        }

        var (plain, balanced) = (Of(Loss(objective, loaded.Model, rows, 0)), Of(Loss(objective, loaded.Model, rows, Weight)));
        var formula = Of(Balance(loaded.Model, rows));
        Assert.That(balanced.Value - plain.Value, Is.EqualTo(Weight * units * formula.Value).Within(1e-4));
        for (var i = 0; i < parameters.Count; i++)
        {
            var difference = balanced.Gradients[i].sub(plain.Gradients[i]);
            var expected = formula.Gradients[i].mul(Weight * units);
            Assert.That(expected.abs().max().ToDouble(), Is.GreaterThan(1e-4), parameters[i].name);
            Assert.That(Golden.LargestDifference(difference, expected), Is.LessThan(2e-5 + (1e-4 * expected.abs().max().ToDouble())), parameters[i].name);
        }
    }

    // Load balancing as transformers' load_balancing_loss_func has it, from the logits of each router: over all layers and real tokens together, the mean number
    // of tokens that go to an expert times its mean probability.
    private static Tensor Balance(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        var chosen = model.Config.RoutedExperts!.Value;
        var logits = rows.SelectMany(row =>
        {
            var record = new RouterRecord(chosen);
            var ids = tensor([.. row.Ids.Select(static i => (long)i)], [1, row.Ids.Length]);
            _ = model.call(new ModelInput { InputIds = ids, PositionIds = arange(row.Ids.Length, int64).unsqueeze(0), LongestPosition = row.Ids.Length - 1, Routers = record });
            return record.Scores;
        });
        var probabilities = cat([.. logits], 0).softmax(-1);
        var experts = probabilities.size(-1);
        var (_, best) = probabilities.topk(chosen);
        var share = best.unsqueeze(-1).eq(arange(experts, int64)).to(float32).mean([0L]);
        return share.mul(probabilities.mean([0L]).unsqueeze(0)).sum().mul(experts);
    }

    private static LoadedModel Load()
    {
        using var golden = new Golden("loss_router_qwen3_moe", "adapters2026");
        return ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, CPU);
    }

    // The rows of an objective, and how many pairs or answers its loss sums over.
    private static (List<TokenRow> Rows, int Units) Rows(string type)
    {
        var isPaired = type is "dpo" or "orpo" or "cpo";
        RowRole Role(int i) => (isPaired, i % 2) switch { (true, 0) => RowRole.Chosen, (true, _) => RowRole.Rejected, (_, 0) => RowRole.Desired, _ => RowRole.Undesired };
        List<TokenRow> rows = [.. s_answers.Select((a, i) => new TokenRow(a, [TokenRow.Ignored, TokenRow.Ignored, TokenRow.Ignored, .. a[3..]], "row") { Role = Role(i) })];
        return (rows, isPaired ? rows.Count / 2 : rows.Count);
    }

    private static Owned Create(string type, CausalLanguageModel model) =>
        new(ObjectiveKinds.Find(type).Create(new ObjectiveContext(new RunConfig { Objective = new ObjectiveSection { Type = type } }) { Reference = new Itself(model) }));

    private static Tensor Loss(Owned objective, CausalLanguageModel model, List<TokenRow> rows, double weight)
    {
        model.RouterLossWeight = weight;
        using (no_grad())
        {
            _ = objective.Value.Begin(model, [rows]);
        }

        return objective.Value.LossSum(model, rows)!;
    }

    private static Tensor SupervisedLoss(CausalLanguageModel model, TokenBatch batch, double weight)
    {
        model.RouterLossWeight = weight;
        return new SupervisedObjective().LossSum(model, batch);
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
