using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Tests.Distributed;
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
    public void A_rank_holds_its_part_and_two_layers([Values(2, 3, 5)] int ranks)
    {
        using var folder = new TemporaryFolder();
        var shape = new ModelShape { HiddenSize = 128, IntermediateSize = 256, Layers = 6, Heads = 4, KeyValueHeads = 2, VocabularySize = 64, MaxPositions = 64, TiedEmbeddings = false };
        NewModel.Write("llama", shape, 7, float32, folder.At("model"), addTokenizer: null);
        ThreadRanks.Run(ranks, group =>
        {
            var weights = new Watched(new SharedWeights(group));
            using var loaded = ModelLoader.LoadGrown(folder.At("model"), float32, new ModelDevices([CPU]) { Weights = weights }, null, keepsPacked: true, labels: null, rows: null);
            var model = loaded.Model;
            using (var whole = ModelLoader.Load(folder.At("model"), float32, CPU))
            {
                var bytes = LayerBytes.Of(whole.Model);

                // While it was read, one layer was whole.
                Assert.That(weights.MostWhileRead, Is.LessThanOrEqualTo((bytes.Layers.Sum() / ranks * 1.1) + (1.1 * bytes.Layers[0])));
                Assert.That(weights.Inner.Bytes, Is.EqualTo(bytes.Layers.Sum() / (double)ranks).Within(10).Percent);
                using var scope = NewDisposeScope();
                var batch = TokenBatch.Of([new TokenRow([5, 9, 2, 7], [5, 9, 2, 7], "row")], padId: 0, CPU);
                model.Stack.ActivationCheckpointing = whole.Model.Stack.ActivationCheckpointing = ActivationCheckpointing.Block;
                List<Tensor> Losses(CausalLanguageModel of)
                {
                    _ = of.Stack.Embedding.Weight.requires_grad_();
                    var loss = new SupervisedObjective().LossSum(of, batch)!;
                    OpenWeights.Tune.Torch.BackwardPass.Run([loss]);
                    return [loss.detach(), of.Stack.Embedding.Weight.grad!];
                }

                foreach (var (shared, expected) in Losses(model).Zip(Losses(whole.Model)))
                {
                    Assert.That(shared.sub(expected).abs().max().ToDouble(), Is.LessThan(1e-6));
                }

                Assert.That(weights.Most, Is.EqualTo((bytes.Layers.Sum() / (double)ranks) + (2 * bytes.Layers[0])).Within(10).Percent, "parts and two layers");
            }

            weights.Inner.Dispose();
        });
    }

    // Notes the bytes of weights in memory.
    private sealed class Watched(SharedWeights inner) : ILayerWeights
    {
        internal SharedWeights Inner => inner;

        internal long Most { get; private set; }

        internal long MostWhileRead { get; private set; }

        public void Enter(int layer, bool isBackward)
        {
            inner.Enter(layer, isBackward);
            Most = Math.Max(Most, inner.Bytes);
        }

        public void Leave(int layer, bool isBackward, bool returns) => inner.Leave(layer, isBackward, returns);

        public void Show(string? name, bool writes = false) => inner.Show(name, writes);

        public void Made(DecoderLayer layer)
        {
            MostWhileRead = Math.Max(MostWhileRead, inner.Bytes + layer.parameters().Sum(static p => p.numel() * p.element_size()));
            inner.Made(layer);
        }

        public void Complete(CausalLanguageModel model) => inner.Complete(model);
    }
}
