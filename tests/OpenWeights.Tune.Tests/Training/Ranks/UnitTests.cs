using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Tests.Distributed;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Memory;
using OpenWeights.Tune.Training.Ranks;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>Flat buffers of random tensors over one to five ranks.</summary>
public sealed class UnitTests
{
    [Test]
    public void Every_element_of_every_tensor_is_in_one_part([Range(0, 30)] int seed)
    {
        var random = new Random(seed);
        var ranks = random.Next(1, 6);
        long[] counts = [.. Enumerable.Range(0, random.Next(1, 9)).Select(_ => random.NextInt64(1, 20_000))];
        var layout = new UnitLayout(counts, ranks);
        var seen = counts.Select(static c => new bool[c]).ToList();
        for (var rank = 0; rank < ranks; rank++)
        {
            foreach (var piece in layout.PiecesOf(rank))
            {
                Assert.That(piece.Start % UnitLayout.Block, Is.Zero, "whole blocks");
                Assert.That(layout.Offset(piece.Tensor) + piece.Start, Is.EqualTo((rank * layout.PartLength) + piece.Place));
                for (var i = piece.Start; i < piece.Start + piece.Count; i++)
                {
                    Assert.That(seen[piece.Tensor][i], Is.False);
                    seen[piece.Tensor][i] = true;
                }
            }
        }

        Assert.That(seen, Has.All.All.True);
        Assert.That(layout.Length, Is.LessThan(counts.Sum() + ((counts.Length + ranks + 1) * UnitLayout.Block)));
    }

    [Test]
    public void Tensors_have_no_memory_until_they_are_gathered([Range(1, 5)] int ranks, [Values(ScalarType.Float32, ScalarType.BFloat16, ScalarType.Byte)] ScalarType dtype) => ThreadRanks.Run(ranks, group =>
    {
        using var scope = NewDisposeScope();
        var random = new Random(ranks);
        List<Tensor> tensors = [.. Enumerable.Range(0, 4).Select(_ => arange(random.Next(1, 9000) * 2, float32).remainder(251).to(dtype).view(2, -1))];
        var expected = tensors.ConvertAll(static t => t.clone());
        var parameter = new Parameter(ones([3, 5]).to(dtype == ScalarType.Byte ? ScalarType.Float32 : dtype));
        if (dtype != ScalarType.Byte)
        {
            tensors.Add(parameter);
            expected.Add(parameter.detach().clone());
        }

        using var flat = new FlatTensors(group, tensors);
        for (var round = 0; round < 3; round++)
        {
            Assert.That(flat.Bytes, Is.EqualTo(flat.Layout.PartLength * tensors[0].element_size()));
            Assert.That(tensors.Select(static t => t.shape), Is.EqualTo(expected.Select(static t => t.shape)));
            flat.Begin();
            flat.Gather();
            for (var i = 0; i < tensors.Count; i++)
            {
                Assert.That(tensors[i].detach().eq(expected[i]).all().ToBoolean());
            }

            // A parameter can be trained meanwhile.
            if (dtype == ScalarType.Float32)
            {
                parameter.mul(2).sum().backward();
                Assert.That(parameter.grad!.eq(2).all().ToBoolean());
                parameter.grad = null;
                using var nothing = no_grad();
                _ = parameter.add_(1);
                _ = expected[^1].add_(1);
                flat.Keep();
            }

            flat.Free();
            Assert.That(dtype == ScalarType.Byte || tensors[0].isnan().all().ToBoolean(), "what is not there is not a number");
        }
    });

    [Test]
    public void Gradients_of_all_ranks_are_summed_and_weights_spread([Range(1, 5)] int ranks) => ThreadRanks.Run(ranks, group =>
    {
        using var scope = NewDisposeScope();
        var random = new Random(ranks);
        List<(int, TrainedParameter)> trained = [.. Enumerable.Range(0, 5).Select(i => (i, new TrainedParameter($"p{i}", new Parameter(full([random.Next(1, 5000), 3], i, float32)), true)))];
        using var unit = new UnitGradients(group, trained, null);
        for (var batch = 0; batch < 2; batch++)
        {
            foreach (var (i, parameter) in trained.Where(static t => t.Item1 != 3))
            {
                parameter.Parameter.grad = zeros_like(parameter.Parameter.detach()).add_((group.Rank + 1) * (i + 1));
            }

            unit.Send();
        }

        unit.Take();
        unit.Give([true, true, true, false, true]);
        using var nothing = no_grad();
        var sum = ranks * (ranks + 1);
        foreach (var piece in unit.Pieces)
        {
            var gradient = piece.Trained.Parameter.grad;
            Assert.That(gradient is null, Is.EqualTo(piece.Of == 3));
            Assert.That(gradient is null || gradient.eq((Scalar)(sum * (piece.Of + 1))).all().ToBoolean());
            _ = piece.Trained.Parameter.add_(10);
        }

        unit.Spread();
        foreach (var (i, parameter) in trained)
        {
            Assert.That(parameter.Parameter.eq((Scalar)(i + 10)).all().ToBoolean(), $"p{i}");
        }
    });

    [Test]
    public void Rows_of_an_embedding_that_no_rank_has_are_not_sent_and_sums_are_the_same([Range(2, 4)] int ranks, [Values(0, 5, 40)] int touched)
    {
        var sums = new byte[ranks][];
        var given = Enumerable.Range(0, ranks).Select(rank =>
        {
            var random = new Random(rank);
            var values = new float[100 * 7];
            for (var i = 0; i < touched; i++)
            {
                // The last row of each rank has what a sum of zeros would hide.
                var row = random.Next(100);
                for (var column = 0; column < 7; column++)
                {
                    values[(row * 7) + column] = i == touched - 1 && column == 3 ? float.NaN : (float)random.NextDouble() - 0.5f;
                }
            }

            return values;
        }).ToList();
        ThreadRanks.Run(ranks, group =>
        {
            using var scope = NewDisposeScope();
            var values = tensor(given[group.Rank]).view(100, 7);
            using (no_grad())
            {
                GradientRows.BeginSum(group, values).Wait();
            }

            sums[group.Rank] = values.bytes.ToArray();
        });
        using var scope = NewDisposeScope();
        var expected = given.Skip(1).Aggregate(tensor(given[0]).view(100, 7), static (sum, g) => sum.add_(tensor(g).view(100, 7)));
        foreach (var sum in sums)
        {
            var found = tensor(System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(sum).ToArray()).view(100, 7);
            Assert.That(found.eq(expected).logical_or(found.isnan().logical_and(expected.isnan())).all().ToBoolean());
        }
    }

    [Test]
    public void A_rank_holds_its_part_and_what_is_computed([Values(2, 3, 5)] int ranks, [Values(1024, 4096)] int vocabulary, [Values] bool tied)
    {
        using var folder = new TemporaryFolder();
        Write(folder, vocabulary, tied);
        ThreadRanks.Run(ranks, group =>
        {
            var weights = new Watched(new SharedWeights(group), () => 0);
            using var loaded = ModelLoader.LoadGrown(folder.At("model"), float32, new ModelDevices([CPU]) { Weights = weights }, null, keepsPacked: true, labels: null, rows: null);
            using var whole = ModelLoader.Load(folder.At("model"), float32, CPU);
            var (model, bytes) = (loaded.Model, LayerBytes.Of(whole.Model));
            var largest = Math.Max(bytes.Layers[0], bytes.Last);

            // While the model was read, a part of it was whole.
            Assert.That(weights.MostWhileRead, Is.LessThanOrEqualTo(1.1 * ((bytes.Total / (double)ranks) + largest)));
            Assert.That(weights.Inner.Bytes, Is.EqualTo(bytes.Total / (double)ranks).Within(10).Percent);
            using var scope = NewDisposeScope();
            var batch = TokenBatch.Of([new TokenRow([5, 9, 2, 7], [5, 9, 2, 7], "row")], padId: 0, CPU);
            model.Stack.ActivationCheckpointing = whole.Model.Stack.ActivationCheckpointing = ActivationCheckpointing.Block;
            List<Tensor> Losses(CausalLanguageModel of)
            {
                _ = of.Stack.Embedding.Weight.requires_grad_();
                _ = of.Head.Weight.requires_grad_();
                var loss = new SupervisedObjective().LossSum(of, batch)!;
                OpenWeights.Tune.Torch.BackwardPass.Run([loss]);
                return [loss.detach(), of.Stack.Embedding.Weight.grad!, of.Head.Weight.grad!];
            }

            foreach (var (shared, expected) in Losses(model).Zip(Losses(whole.Model)))
            {
                Assert.That(shared.sub(expected).abs().max().ToDouble(), Is.LessThan(1e-6));
            }

            Assert.That(weights.Most, Is.EqualTo((bytes.Total / (double)ranks) + bytes.Layers[0] + largest).Within(10).Percent, "parts, a layer, and another or the head");
            weights.Inner.Dispose();
        });
    }

    // The head's gradients are measured while the last layer computes, those of the others before they are sent: where a layer is the largest unit, both are the formula's.
    [Test]
    public void Bytes_of_a_rank_are_those_of_the_estimate([Values(2, 4)] int ranks, [Values] bool tied, [Values("gradients", "parameters")] string shard)
    {
        using var folder = new TemporaryFolder();
        Write(folder, vocabulary: 1024, tied);
        var config = RankRun.Config(folder, "run") with { Adapter = null };
        config = config with { Training = config.Training with { GradientAccumulationSteps = 2, Optimizer = "adamw" } };
        var expected = RunMemory.OfLongest(config, folder.At("model")).OfRanks(ranks, onGpu: true).Single(r => r.Shard == shard);
        ThreadRanks.Run(ranks, group =>
        {
            var shares = shard == "parameters";
            var loaded = ModelLoader.LoadGrown(folder.At("model"), float32, new ModelDevices([CPU]) { Weights = shares ? new SharedWeights(group) : null }, null, keepsPacked: true, labels: null, rows: null);
            using var trained = new FullTraining(loaded, decayNormsAndBiases: false);
            loaded.Model.Stack.ActivationCheckpointing = ActivationCheckpointing.Block;
            using var strategy = new ShardedModel(trained, group, config.Training, shares);
            var watched = new Watched((ILayerWeights)strategy, () => strategy.Bytes.Gradients + trained.Parameters.Sum(static p => p.Parameter.grad is { } gradient ? gradient.numel() * gradient.element_size() : 0), () => strategy.Bytes.Weights);
            loaded.Model.Stack.LayerWeights = watched;
            for (var step = 0; step < 2; step++)
            {
                for (var batch = 0; batch < 2; batch++)
                {
                    using var scope = NewDisposeScope();
                    strategy.Accumulating(isLast: batch == 1);
                    OpenWeights.Tune.Torch.BackwardPass.Run([new SupervisedObjective().LossSum(loaded.Model, TokenBatch.Of([new TokenRow([5, 9, 2, 7], [5, 9, 2, 7], "row")], padId: 0, CPU))!]);
                }

                strategy.Accumulated();
                strategy.Step(1e-3, 1);
                strategy.Drop();
            }

            Assert.That(watched.MostGradients, Is.EqualTo(expected.Gradients).Within(10).Percent, "gradients");
            Assert.That(strategy.Optimizer.State.Sum(static s => s.State.numel() * s.State.element_size()), Is.EqualTo(expected.Optimizer).Within(10).Percent, "optimizer");
            if (shares)
            {
                Assert.That(watched.Most, Is.EqualTo(expected.Weights).Within(10).Percent, "weights");
            }
        });
    }

    // The first rank has four prompts, the next fewer, the last none or one; none ends its answers after as many tokens as another.
    [Test]
    public void Ranks_with_parts_generate_the_texts_of_a_whole_model([Values(2, 4)] int ranks, [Values] bool tied)
    {
        using var folder = new TemporaryFolder();
        Write(folder, vocabulary: 1024, tied);
        ThreadRanks.Run(ranks, group =>
        {
            using var loaded = ModelLoader.LoadGrown(folder.At("model"), float32, new ModelDevices([CPU]) { Weights = new SharedWeights(group) }, null, keepsPacked: true, labels: null, rows: null);
            using var whole = ModelLoader.Load(folder.At("model"), float32, CPU);
            for (var round = 0; round < 2; round++)
            {
                var random = new Random(group.Rank + (10 * round));
                int[][] prompts = [.. Enumerable.Range(0, Math.Max(0, 4 - (2 * group.Rank))).Select(_ => Enumerable.Range(0, random.Next(1, 9)).Select(_ => random.Next(1024)).ToArray())];
                IReadOnlyList<int[]> Texts(CausalLanguageModel model) => prompts.Length == 0 ? []
                    : [.. new TextGenerator(model, new GenerationOptions { MaxNewTokens = 3 + (5 * group.Rank), Temperature = 0.8, Seed = 3 }).Continue(prompts).Select(static t => t.OutputIds.ToArray())];
                var made = Texts(loaded.Model);
                loaded.Model.Stack.LayerWeights!.TakePart();
                Assert.That(made, Is.EqualTo(Texts(whole.Model)));
            }
        });
    }

    private static void Write(TemporaryFolder folder, int vocabulary, bool tied)
    {
        var shape = new ModelShape { HiddenSize = 128, IntermediateSize = 256, Layers = 6, Heads = 4, KeyValueHeads = 2, VocabularySize = vocabulary, MaxPositions = 64, TiedEmbeddings = tied };
        NewModel.Write("llama", shape, 7, float32, folder.At("model"), addTokenizer: null);
    }

    // Notes the bytes of weights and gradients in memory.
    private sealed class Watched(ILayerWeights inner, Func<long> gradients, Func<long>? weights = null) : ILayerWeights
    {
        internal SharedWeights Inner => (SharedWeights)inner;

        internal long Most { get; private set; }

        internal long MostGradients { get; private set; }

        internal long MostWhileRead { get; private set; }

        public void Enter(int layer, bool isBackward)
        {
            inner.Enter(layer, isBackward);
            Note();
        }

        public void Leave(int layer, bool isBackward, bool returns)
        {
            Note();
            inner.Leave(layer, isBackward, returns);
        }

        public bool HasAll => inner.HasAll;

        public void BeginOwn() => inner.BeginOwn();

        public void TakePart() => inner.TakePart();

        public void Show(string? name, bool writes = false) => inner.Show(name, writes);

        public void Made(nn.Module part)
        {
            MostWhileRead = Math.Max(MostWhileRead, Inner.Bytes + part.parameters().Sum(static p => p.numel() * p.element_size()));
            inner.Made(part);
        }

        public void Complete(CausalLanguageModel model) => inner.Complete(model);

        private void Note()
        {
            Most = Math.Max(Most, weights?.Invoke() ?? Inner.Bytes);
            MostGradients = Math.Max(MostGradients, gradients());
        }
    }
}
