using NUnit.Framework;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Tests.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>Attention in blocks against the formula, written out in float64 with every score at once.</summary>
[TestFixture(true)]
[TestFixture(false)]
public sealed class BlockAttentionTests(bool wide)
{
    private VectorWidth? _width;

    [SetUp]
    public void Choose() => _width = new VectorWidth(wide);

    [TearDown]
    public void Restore() => _width!.Dispose();

    // More than one block of queries, a ragged last one, grouped queries, several rows, limited scores, and queries behind a cache.
    [TestCase(1, 1, 1, 1, 1, 8, null)]
    [TestCase(2, 4, 2, 7, 7, 8, null)]
    [TestCase(2, 4, 4, 128, 128, 16, null)]
    [TestCase(1, 6, 2, 300, 300, 8, null)]
    [TestCase(1, 8, 2, 700, 700, 4, null)]
    [TestCase(2, 4, 1, 200, 200, 8, 2.5)]
    [TestCase(3, 4, 2, 1, 33, 8, null)]
    [TestCase(2, 4, 2, 140, 171, 8, 1.5)]
    [TestCase(1, 1, 1, 12, 12, 16, null)]
    [TestCase(2, 4, 2, 150, 171, 80, null)]
    [TestCase(1, 2, 1, 400, 400, 64, null)]
    [TestCase(1, 3, 3, 97, 97, 100, null)]
    public void Blocks_give_the_formulas_values_and_gradients(int batch, int heads, int keyValueHeads, int queries, int keys, int width, double? cap) =>
        Compare((batch, heads, keyValueHeads, queries, keys, width), Mask.Causal, window: null, cap);

    [TestCase(50, 12)]
    [TestCase(300, 40)]
    [TestCase(300, 290)]
    public void A_sliding_window_hides_what_lies_behind_it(int tokens, int window) => Compare((2, 4, 2, tokens, tokens, 8), Mask.Band, window, cap: null);

    [TestCase(20)]
    [TestCase(300)]
    public void Packed_documents_of_each_row_do_not_see_each_other(int tokens) => Compare((2, 4, 2, tokens, tokens, 8), Mask.Documents, window: null, cap: 3);

    [Test]
    public void Without_gradients_the_values_are_the_same_to_the_bit()
    {
        using var scope = NewDisposeScope();
        using var settings = new Settings(0.3, null, null);
        var (query, key, value) = Draw((2, 4, 2, 150, 150, 8));
        var with = BlockAttention.Attend(query.clone().requires_grad_(), key, value, null, settings.Value).detach();
        using var nothing = no_grad();
        Assert.That(with.sub(BlockAttention.Attend(query, key, value, null, settings.Value)).abs().max().ToDouble(), Is.Zero);
    }

    [Test]
    public void In_bfloat16_values_and_gradients_are_those_of_the_same_numbers_in_float32_but_for_their_roundings()
    {
        using var scope = NewDisposeScope();
        using var settings = new Settings(0.35, null, null);
        var (query, key, value) = Draw((1, 4, 2, 200, 200, 8));
        (query, key, value) = (query.bfloat16(), key.bfloat16(), value.bfloat16());
        var (exact, low) = (Run(query.to(float32), key.to(float32), value.to(float32)), Run(query, key, value));

        // Sums are float32, so a value is rounded once. A gradient is made of rounded values, which stand in it twice (as they are, and in their
        // mean by the probabilities), and of those of the heads that share a key; it is rounded once again.
        for (var i = 0; i < exact.Length; i++)
        {
            var scale = exact[i].abs().max().ToDouble();
            Assert.That(exact[i].sub(low[i].to(float32)).abs().max().ToDouble() / scale, Is.LessThan((i == 0 ? 1.01 : 4) * Composed.BFloat16Rounding));
        }

        Tensor[] Run(Tensor q, Tensor k, Tensor v)
        {
            Tensor[] leaves = [.. new[] { q, k, v }.Select(static t => t.clone().requires_grad_())];
            var mixed = BlockAttention.Attend(leaves[0], leaves[1], leaves[2], null, settings.Value);
            mixed.mul(mixed.detach()).sum().backward();
            return [mixed.detach(), .. leaves.Select(static l => l.grad!)];
        }
    }

    private static void Compare((int Batch, int Heads, int KeyValueHeads, int Queries, int Keys, int Width) shape, Mask kind, int? window, double? cap)
    {
        using var scope = NewDisposeScope();
        using var settings = new Settings(0.37, cap, window);
        var (query, key, value) = Draw(shape);
        var visible = Visible(kind, shape.Batch, shape.Queries, shape.Keys, window);
        Tensor[] leaves = [.. new[] { query, key, value }.Select(static t => t.clone().requires_grad_())];
        Tensor[] exact = [.. new[] { query, key, value }.Select(static t => t.to(float64).requires_grad_())];
        var weights = randn([shape.Batch, shape.Heads, shape.Queries, shape.Width]);

        var mixed = BlockAttention.Attend(leaves[0], leaves[1], leaves[2], kind == Mask.Causal ? null : visible, settings.Value);
        mixed.mul(weights).sum().backward();
        var group = shape.Heads / shape.KeyValueHeads;
        var scores = exact[0].matmul(exact[1].repeat_interleave(group, 1).transpose(2, 3)).mul(0.37);
        scores = cap is { } c ? scores.mul(1 / c).tanh().mul(c) : scores;
        var wanted = scores.masked_fill(visible.logical_not(), double.NegativeInfinity).softmax(-1).matmul(exact[2].repeat_interleave(group, 1));
        wanted.mul(weights).sum().backward();

        Near(mixed.detach(), wanted.detach(), "values");
        foreach (var (name, got, want) in new[] { "query", "key", "value" }.Zip(leaves, exact))
        {
            Near(got.grad!, want.grad!, $"the gradient of {name}");
        }
    }

    private static (Tensor Query, Tensor Key, Tensor Value) Draw((int Batch, int Heads, int KeyValueHeads, int Queries, int Keys, int Width) s)
    {
        _ = manual_seed(7);

        // As a decoder has them: queries and keys contiguous, values a view.
        return (randn([s.Batch, s.Heads, s.Queries, s.Width]), randn([s.Batch, s.KeyValueHeads, s.Keys, s.Width]), randn([s.Batch, s.Keys, s.KeyValueHeads, s.Width]).transpose(1, 2));
    }

    private static Tensor Visible(Mask kind, int batch, int queries, int keys, int? window)
    {
        var visible = ones([queries, keys], @bool).tril(keys - queries);
        if (kind == Mask.Band)
        {
            visible = visible.triu(keys - queries - window!.Value + 1);
        }

        visible = visible.unsqueeze(0).unsqueeze(0);
        if (kind == Mask.Documents)
        {
            // Borders at other places in each row.
            var documents = stack(Enumerable.Range(0, batch).Select(b => arange(keys).add(3 * b).div(11, RoundingMode.floor)));
            visible = visible.logical_and(documents.unsqueeze(2).eq(documents.unsqueeze(1)).unsqueeze(1));
        }

        return visible;
    }

    private static void Near(Tensor got, Tensor wanted, string what)
    {
        using var difference = got.to(float64).sub(wanted).abs().max();
        Assert.That(difference.ToDouble(), Is.LessThan(2e-6 * Math.Max(1, wanted.abs().max().ToDouble())), what);
    }

    private enum Mask
    {
        Causal,
        Band,
        Documents,
    }

    private sealed class Settings(double scale, double? cap, int? window) : IDisposable
    {
        internal BlockAttentionSettings Value { get; } = new(scale, cap, cap is null ? null : 1 / cap, double.NegativeInfinity, window);

        public void Dispose()
        {
            Value.Scale.Dispose();
            Value.Cap?.Dispose();
            Value.InverseCap?.Dispose();
            Value.NegativeInfinity.Dispose();
        }
    }
}
