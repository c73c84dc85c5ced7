using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>What the loop does when something goes wrong.</summary>
public sealed class TrainerTests
{
    [Test]
    public void A_loss_that_is_no_number_stops_the_run_and_names_the_rows()
    {
        using var bench = new Bench("stop", badCall: 2);
        _ = bench.Trainer.Step();
        _ = bench.Trainer.Step();
        Assert.That(() => bench.Trainer.Step(), Throws.InstanceOf<TrainingFailedException>().With.Message.Contains("loss of step 3 is NaN").And.Message.Contains("row 4").And.Message.Contains("row 5"));
    }

    [Test]
    public void Or_the_step_is_skipped_and_said_and_changes_nothing()
    {
        using var bench = new Bench("skip", badCall: 1);
        _ = bench.Trainer.Step();
        var before = bench.Weights();
        var skipped = bench.Trainer.Step();
        Assert.That(skipped.Skipped);
        Assert.That(skipped.Loss, Is.NaN);
        Assert.That(skipped.Rows, Is.EqualTo("row 2, row 3"));
        Assert.That(bench.Weights(), Is.EqualTo(before));
        Assert.That(bench.Trainer.State.Step, Is.EqualTo(2));
        Assert.That(bench.Trainer.State.Updates, Is.EqualTo(1));
        Assert.That(bench.Trainer.Step().Loss, Is.Not.NaN, "the next step has its own rows and goes on");
        Assert.That(bench.Weights(), Is.Not.EqualTo(before));
    }

    [Test]
    public void The_longest_rows_can_be_tried_first_without_changing_the_run()
    {
        using var plain = new Bench("stop", badCall: -1);
        using var rehearsed = new Bench("stop", badCall: -1);
        rehearsed.Trainer.Rehearse();
        Assert.That(rehearsed.Objective.Widths[0], Is.EqualTo(13), "the longest of the rows");
        for (var i = 0; i < 3; i++)
        {
            Assert.That(rehearsed.Trainer.Step().Loss, Is.EqualTo(plain.Trainer.Step().Loss));
        }

        Assert.That(rehearsed.Weights(), Is.EqualTo(plain.Weights()));
    }

    [Test]
    public void A_loss_that_stands_out_is_a_spike_and_noise_is_none()
    {
        var random = new Random(1);
        var detector = new SpikeDetector();
        var calm = Enumerable.Range(0, 200).Count(_ => detector.Sees(2 + (0.3 * random.NextDouble())));
        Assert.That(calm, Is.Zero);
        Assert.That(detector.Sees(6));
        var resumed = new SpikeDetector { Losses = detector.Losses };
        Assert.That(Enumerable.Range(0, 30).Select(i => resumed.Sees(2 + (i % 7))), Is.EqualTo(Enumerable.Range(0, 30).Select(i => detector.Sees(2 + (i % 7)))));
    }

    private sealed class Bench : IDisposable
    {
        private readonly TemporaryFolder _folder = new();
        private readonly FullTraining _trained;

        internal Bench(string nonFinite, int badCall)
        {
            _trained = new FullTraining(ModelLoader.Load(TinyModel.Write(_folder), float32, TestDevice.Current), decayNormsAndBiases: false);
            var random = new Random(2);
            TokenRow Row(int number)
            {
                var ids = Enumerable.Range(0, 8 + (number % 6)).Select(_ => random.Next(TinyModel.Vocabulary)).ToArray();
                return new TokenRow(ids, ids, $"row {number}");
            }

            Objective = new FailingObjective(badCall);
            var rows = new BatchSampler([.. Enumerable.Range(0, 12).Select(Row)], shuffle: false, seed: 1, microBatch: 2, accumulation: 1);
            var config = new RunConfig { Training = new TrainingSection { NonFinite = nonFinite, WarmupSteps = 0, LearningRate = 1e-3 } };
            Trainer = new Trainer(_trained, Objective, rows, config, totalSteps: 6);
        }

        internal FailingObjective Objective { get; }

        internal Trainer Trainer { get; }

        internal byte[] Weights()
        {
            using var scope = NewDisposeScope();
            return [.. _trained.Parameters.SelectMany(static p => p.Parameter.detach().to(CPU, copy: true).bytes.ToArray())];
        }

        public void Dispose()
        {
            Trainer.Dispose();
            _trained.Dispose();
            _folder.Dispose();
        }
    }

    /// <summary>The real objective, with one loss that is not a number.</summary>
    private sealed class FailingObjective(int badCall) : IObjective
    {
        private readonly SupervisedObjective _real = new();
        private int _calls;

        internal List<long> Widths { get; } = [];

        public long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches) => _real.Begin(model, batches);

        public Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
        {
            Widths.Add(rows.Max(static r => r.Ids.Length));
            using Scalar factor = _calls++ == badCall ? double.NaN : 1.0;
            return _real.LossSum(model, rows)!.mul(factor);
        }
    }
}
