using NUnit.Framework;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

public sealed class AttentionMaskTests
{
    private IDisposable _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [TestCase(null)]
    [TestCase(3)]
    public void A_token_sees_its_own_document_back_to_its_window(int? window)
    {
        long[] documents = [1, 1, 1, 1, 1, 2, 2, 0, 0];
        var expected = new float[81];
        for (var query = 0; query < 9; query++)
        {
            for (var key = 0; key <= query; key++)
            {
                expected[(query * 9) + key] = documents[query] == documents[key] && query - key < (window ?? 9) ? 1 : 0;
            }
        }

        var mask = Packed(documents, window).to(float32).view(-1);
        Assert.That(mask.sub(tensor(expected)).abs().max().ToDouble(), Is.Zero);
    }

    [TestCase(ScalarType.Float32)]
    [TestCase(ScalarType.BFloat16)]
    public void As_a_bias_it_mixes_values_as_the_mask_does(ScalarType dtype)
    {
        _ = manual_seed(3);
        var mask = Packed([1, 1, 1, 1, 2, 2, 2, 0, 0], window: null);
        var bias = AttentionMask.ToBias(mask, dtype);
        Assert.That(bias.dtype, Is.EqualTo(dtype));
        var (query, key, value) = (randn([2, 4, 9, 8]).to(dtype), randn([2, 4, 9, 8]).to(dtype), randn([2, 4, 9, 8]).to(dtype));
        var expected = nn.functional.scaled_dot_product_attention(query, key, value, mask);
        var mixed = nn.functional.scaled_dot_product_attention(query, key, value, bias);
        Assert.That(mixed.to(float32).sub(expected.to(float32)).abs().max().ToDouble(), Is.Zero);
    }

    [TestCase(9)]
    [TestCase(16)]
    [TestCase(33)]
    public void As_a_bias_its_rows_begin_where_fused_kernels_want_them(int tokens)
    {
        var bias = AttentionMask.ToBias(Packed(Enumerable.Repeat(1L, tokens).ToArray(), window: null), bfloat16);
        Assert.That(bias.shape, Is.EqualTo(new long[] { 1, 1, tokens, tokens }));
        Assert.That(bias.stride().Take(3), Has.All.Matches<long>(static stride => stride % 16 == 0));
        Assert.That(bias.stride(3), Is.EqualTo(1));
    }

    private static Tensor Packed(long[] documents, int? window) =>
        AttentionMask.For(ModelInput.Rows(zeros([1, documents.Length], int64)) with { Documents = tensor(documents).unsqueeze(0) }, window)!;
}
