using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives.Embeddings;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Embeddings;

/// <summary>The contrastive loss, its masks and its gradients, against a recomputation in float64 that looks at each pair of texts by itself.</summary>
internal sealed class EmbeddingObjectiveTests
{
    private const double Temperature = 0.07;

    // Rows of anchor, positive and negatives. The second row asks the same as the first, the third has the first's positive, and the fourth's negative is the
    // first's anchor.
    private static readonly int[][][] s_rows =
    [
        [[5, 6, 7], [10, 11]],
        [[5, 6, 7], [12, 13, 14, 15], [16, 17]],
        [[20, 21, 22, 23], [10, 11]],
        [[24], [30, 31, 32], [5, 6, 7], [33, 34]],
        [[40, 41], [42, 43, 44]],
    ];

    [TestCase(EmbeddingPooling.Last, false)]
    [TestCase(EmbeddingPooling.Mean, false)]
    [TestCase(EmbeddingPooling.Mean, true)]
    [TestCase(EmbeddingPooling.Last, true)]
    public void The_loss_and_the_models_gradient_are_those_of_a_recomputation_in_float64(EmbeddingPooling pooling, bool bothWays)
    {
        using var folder = new TemporaryFolder();
        using var trained = Trained(folder, bothWays);
        var expected = Recomputed(trained.Model, pooling);
        var wanted = Gradients(trained);
        foreach (var microBatch in new[] { s_rows.Length, 2, 1 })
        {
            var (loss, metrics) = Step(trained, pooling, microBatch);
            Assert.That(loss, Is.EqualTo(expected.Loss).Within(1e-5), $"micro-batches of {microBatch}");
            Assert.That(metrics["recall@1"], Is.EqualTo(expected.Recall).Within(1e-9));
            foreach (var (name, gradient) in Gradients(trained))
            {
                Assert.That(Golden.LargestDifference(gradient, wanted[name]), Is.LessThan(2e-5 * Math.Max(1, wanted[name].abs().max().ToDouble())), name);
            }
        }
    }

    [Test]
    public void Vectors_do_not_depend_on_the_other_texts_of_a_batch()
    {
        using var folder = new TemporaryFolder();
        foreach (var bothWays in new[] { false, true })
        {
            using var trained = Trained(folder, bothWays);
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            var texts = s_rows.SelectMany(static r => r).ToList();
            var together = TextEmbeddings.Of(trained.Model, texts, EmbeddingPooling.Mean);
            for (var i = 0; i < texts.Count; i++)
            {
                Assert.That(Golden.LargestDifference(TextEmbeddings.Of(trained.Model, [texts[i]], EmbeddingPooling.Mean).select(0, 0), together.select(0, i)), Is.LessThan(1e-5));
            }
        }
    }

    [Test]
    public void A_long_text_that_is_read_in_parts_has_the_vector_of_the_whole([Values] EmbeddingPooling pooling)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var random = new Random(5);
        int[][] texts = [[5, 6], [.. Enumerable.Range(0, 700).Select(_ => random.Next(3, 60))], [.. Enumerable.Range(0, 257).Select(_ => random.Next(3, 60))]];
        Assert.That(texts.Select(t => TextParts.Suit(loaded.Model, t.Length, null)), Is.EqualTo(new[] { false, true, true }));
        var vectors = TextEmbedder.Embed(loaded.Model, texts, pooling, adapter: null, batchSize: 16);
        for (var i = 0; i < texts.Length; i++)
        {
            Assert.That(Golden.LargestDifference(tensor(vectors[i]), TextEmbeddings.Of(loaded.Model, [texts[i]], pooling).select(0, 0)), Is.LessThan(1e-5));
            Assert.That(Golden.LargestDifference(TextParts.Of(loaded.Model, texts[i], pooling, null).select(0, 0), tensor(vectors[i])), Is.LessThan(1e-5));
        }

        loaded.Model.Stack.IsBidirectional = true;
        Assert.That(TextParts.Suit(loaded.Model, 700, null), Is.False, "each token needs all others");
    }

    [Test]
    public void Looking_both_ways_shows_each_token_all_of_its_own_text_within_the_window()
    {
        using var scope = NewDisposeScope();
        long[] documents = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0];
        var input = ModelInput.Rows(zeros([2, 5], int64)) with { Documents = tensor(documents, [2, 5]), IsBidirectional = true };
        foreach (var window in new int?[] { null, 2 })
        {
            bool[] mask = [.. Numbers(AttentionMask.For(input, window)!.to(float64)).Select(static n => n > 0)];
            for (var at = 0; at < 50; at++)
            {
                var (row, query, key) = (at / 25, at / 5 % 5, at % 5);
                var same = documents[(5 * row) + query] == documents[(5 * row) + key];
                Assert.That(mask[at], Is.EqualTo(same && Math.Abs(query - key) <= (window ?? 5)), $"{row} {query} {key}");
            }
        }
    }

    [Test]
    public void Many_anchors_are_compared_a_block_at_a_time()
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(3);
        static Tensor Drawn(long count)
        {
            var drawn = randn([count, 4]);
            return drawn.div(drawn.norm(1, keepdim: true));
        }

        var (anchors, candidates) = (Drawn(300), Drawn(20_000));
        var names = new TextNames();
        for (var i = 0; i < 300; i++)
        {
            names.Add([[i], [1000 + i], .. i == 0 ? Enumerable.Range(0, 19_700).Select(static j => new[] { 2000 + j }) : []]);
        }

        var loss = ContrastiveLoss.Of(anchors, candidates, names, 0.5);
        var scores = anchors.to(float64).mm(candidates.to(float64).t()).div(0.5);
        var expected = scores.logsumexp(1).sub(scores.diagonal());
        Assert.That(loss.Losses, Is.EqualTo(Numbers(expected)).Within(1e-6));
    }

    private static double[] Numbers(Tensor values) => MemoryMarshal.Cast<byte, double>(values.contiguous().bytes).ToArray();

    private static FullTraining Trained(TemporaryFolder folder, bool bothWays)
    {
        var path = folder.At("model");
        var loaded = ModelLoader.Load(Directory.Exists(path) ? path : TinyModel.Write(folder), float32, TestDevice.Current);
        loaded.Model.Stack.IsBidirectional = bothWays;
        return new FullTraining(loaded, decayNormsAndBiases: true);
    }

    private static (double Loss, IReadOnlyDictionary<string, double> Metrics) Step(ITrainedModel trained, EmbeddingPooling pooling, int microBatch)
    {
        var rows = s_rows.Select(static texts => new TokenRow([.. texts.SelectMany(static t => t)], [.. texts.SelectMany(static t => t)], [.. texts.Select(static t => t.Length)], "row") { Role = RowRole.Related });
        var objective = new EmbeddingObjective(Temperature, pooling);
        IReadOnlyList<IReadOnlyList<TokenRow>> batches = [.. rows.Chunk(microBatch)];
        long units;
        using (no_grad())
        {
            units = objective.Begin(trained.Model, batches);
        }

        var loss = 0.0;
        foreach (var batch in batches)
        {
            using var scope = NewDisposeScope();
            var sum = objective.LossSum(trained.Model, batch)!.div(units);
            sum.backward();
            loss += sum.ToDouble();
        }

        return (loss, objective.End());
    }

    // The gradients, which are then cleared.
    private static Dictionary<string, Tensor> Gradients(ITrainedModel trained)
    {
        var gradients = new Dictionary<string, Tensor>();
        foreach (var parameter in trained.Parameters.Where(static p => p.Parameter.grad is not null))
        {
            gradients[parameter.Name] = parameter.Parameter.grad!.clone().DetachFromDisposeScope();
            _ = parameter.Parameter.grad!.zero_();
        }

        return gradients;
    }

    // Each text through the model alone, each similarity by itself; leaves the gradient in the model's parameters.
    private static (double Loss, double Recall) Recomputed(CausalLanguageModel model, EmbeddingPooling pooling)
    {
        using var scope = NewDisposeScope();
        Tensor Vector(int[] text)
        {
            var ids = tensor(Array.ConvertAll(text, static t => (long)t), [1, text.Length], device: model.Device);
            var input = ModelInput.Rows(ids);
            var hidden = model.call(model.Stack.IsBidirectional ? input with { IsBidirectional = true, Documents = ones([1, text.Length], int64, model.Device) } : input).select(0, 0).to(float64);
            var pooled = pooling == EmbeddingPooling.Last ? hidden.select(0, text.Length - 1) : hidden.mean([0L]);
            return pooled.div(pooled.square().sum().sqrt());
        }

        static string Name(int[] text) => string.Join(',', text);
        var candidates = s_rows.Select(static (r, i) => (Text: r[1], Owner: i)).Concat(s_rows.SelectMany(static r => r.Skip(2).Select(static t => (Text: t, Owner: -1)))).ToList();
        var (vectors, total, hits) = (candidates.Select(c => Vector(c.Text)).ToList(), zeros([], float64, model.Device), 0);
        for (var i = 0; i < s_rows.Length; i++)
        {
            var anchor = Vector(s_rows[i][0]);
            var own = anchor.mul(vectors[i]).sum().div(Temperature);
            var others = new List<Tensor>();
            for (var j = 0; j < candidates.Count; j++)
            {
                var name = Name(candidates[j].Text);
                var isFalse = name == Name(s_rows[i][1]) || name == Name(s_rows[i][0]) || (candidates[j].Owner >= 0 && Name(s_rows[candidates[j].Owner][0]) == Name(s_rows[i][0]));
                if (j != i && !isFalse)
                {
                    others.Add(anchor.mul(vectors[j]).sum().div(Temperature));
                }
            }

            hits += others.TrueForAll(o => o.ToDouble() <= own.ToDouble()) ? 1 : 0;
            total = total.add(stack([own, .. others]).exp().sum().log().sub(own));
        }

        var loss = total.div(s_rows.Length);
        loss.backward();
        return (loss.ToDouble(), (double)hits / s_rows.Length);
    }
}
