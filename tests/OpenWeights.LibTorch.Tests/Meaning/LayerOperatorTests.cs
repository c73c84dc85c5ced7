using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

/// <summary>What the operators of recurrent layers, norms and activations give.</summary>
public sealed class LayerOperatorTests
{
    private static Tensor Values(params float[] values) => tensor(values);

    private static void Gives(Tensor found, params double[] expected) =>
        Assert.That(Enumerable.Range(0, (int)found.numel()).Select(i => found.view(-1).narrow(0, i, 1).to(float64).ToDouble()), Is.EqualTo(expected).Within(1e-5));

    private static Tensor Grid() => tensor(new float[] { 1, 2, 3, 4, 5, 6, 7, 8 }).view(2, 2, 2);

    [Test]
    public void Pointwise_functions_give_their_values()
    {
        Gives(Values(-1, 0, 2).relu(), 0, 0, 2);
        Gives(nn.functional.relu(Values(-1, 0, 2)), 0, 0, 2);
        Gives(nn.functional.mish(Values(0, 20)), 0, 20);
        Gives(nn.functional.softplus(Values(-100, 100)), 0, 100);
        Gives(Values(0, 1).expm1(), 0, Math.E - 1);
        Gives(Values(0, 1).expm1_(), 0, Math.E - 1);
        Gives(Values(1, MathF.E).log_(), 0, 1);
        Gives(Values(0, MathF.E - 1).log1p_(), 0, 1);
        Gives(Values(0).erfinv(), 0);
        Assert.That(Values(0.5f).erfinv().ToDouble(), Is.EqualTo(0.4769362762).Within(1e-6));
    }

    [Test]
    public void Values_are_limited_and_compared()
    {
        using Scalar least = -1, most = 2;
        Gives(Values(-3, 0, 5).clamp(least, most), -1, 0, 2);
        Gives(Values(-3, 0, 5).clamp_(least, most), -1, 0, 2);
        Gives(Values(1, 5).minimum(Values(3, 4)), 1, 4);
        Gives(Values(1, 5).ne(Values(1, 4)).to(float32), 0, 1);
        Gives(Values(0, 1, 0).ne(Values(0, 0, 0)).logical_or(Values(1, 0, 0).ne(Values(0, 0, 0))).to(float32), 1, 1, 0);
        Gives(Values(1, 2).addcmul(Values(3, 4), Values(5, 6), 2), 31, 50);
    }

    [Test]
    public void Parts_are_taken_in_their_order()
    {
        Gives(Grid()[1].flatten(), 5, 6, 7, 8);
        var changed = Grid();
        changed[0] = zeros([2, 2]);
        Gives(changed.flatten(), 0, 0, 0, 0, 5, 6, 7, 8);
        Assert.That(Grid().flatten(1).shape, Is.EqualTo(new long[] { 2, 4 }));
        Gives(Grid().diagonal(0, 1, 2).flatten(), 1, 4, 5, 8);
        Gives(Values(1, 2, 3).flip(0), 3, 2, 1);
        Gives(Grid().movedim([0], [2]).flatten(), 1, 5, 2, 6, 3, 7, 4, 8);
        Gives(Grid().unbind(2)[1].flatten(), 2, 4, 6, 8);
        Gives(diag_embed(Values(1, 2)).flatten(), 1, 0, 0, 2);
    }

    [Test]
    public void Norms_deviations_and_triangular_systems()
    {
        ReadOnlySpan<long> last = [-1];
        Gives(Values(1, 3).std(last, unbiased: false), 1);
        Gives(nn.functional.layer_norm(Values(1, 3), [2], Values(2, 2), Values(1, 1), 0), -1, 3);
        var lower = tensor(new float[] { 9, 0, 2, 9 }).view(2, 2);
        Gives(linalg.solve_triangular(lower, Values(1, 5).view(2, 1), upper: false, left: true, unitriangular: true).flatten(), 1, 3);
        var several = tensor(new float[] { 2, 0, 0, 4, 1, 2, 3, 7 }).view(2, 2, 2);
        Gives(linalg.inv(several).flatten(), 0.5, 0, 0, 0.25, 7, -2, -3, 1);
    }

    [Test]
    public void Systems_are_solved_from_both_sides()
    {
        var matrix = tensor(new float[] { 2, 1, 0, 4 }).view(2, 2);
        Gives(linalg.solve(matrix, Values(4, 8).view(2, 1)).flatten(), 1, 2);
        Gives(linalg.solve(matrix, Values(2, 9).view(1, 2), left: false).flatten(), 1, 2);
    }

    [Test]
    public void A_permutation_has_every_number_once_and_follows_its_generator()
    {
        using var first = new Generator(7);
        using var second = new Generator(7);
        var drawn = randperm(50, generator: first);
        Assert.That(drawn.dtype, Is.EqualTo(int64));
        Assert.That(drawn.eq(randperm(50, generator: second)).all().item<bool>());
        Assert.That(Enumerable.Range(0, 50).Select(i => drawn.narrow(0, i, 1).to(float64).ToDouble()), Is.EquivalentTo(Enumerable.Range(0, 50)));
        Assert.That(drawn.eq(arange(50, int64)).all().item<bool>(), Is.False);
    }

    [Test]
    public void The_inverse_Fourier_transform_of_a_matrix_has_its_waves()
    {
        var one = zeros([2, 4], float32);
        one[1] = Values(0, 1, 0, 0);
        var made = fft.ifft2(one).view_as_real();

        // exp(2 pi i (row / 2 + column / 4)) / 8
        Gives(made.select(-1, 0).flatten(), 0.125, 0, -0.125, 0, -0.125, 0, 0.125, 0);
        Gives(made.select(-1, 1).flatten(), 0, 0.125, 0, -0.125, 0, -0.125, 0, 0.125);
        Gives(fft.ifft2(one, norm: FFTNormType.Forward).view_as_real().select(-1, 0).flatten(), 1, 0, -1, 0, -1, 0, 1, 0);
    }

    [Test]
    public void Decompositions_inverses_and_copied_rows()
    {
        var matrix = tensor(new float[] { 3, 1, 4, 2 }).view(2, 2);
        var (q, r) = linalg.qr(matrix);
        Gives(q.t().mm(q).flatten(), 1, 0, 0, 1);
        Gives(q.mm(r).flatten(), 3, 1, 4, 2);
        Gives(r.tril(-1).flatten(), 0, 0, 0, 0);
        Gives(linalg.inv(matrix).flatten(), 1, -0.5, -2, 1.5);
        Gives(matrix.index_copy(0, tensor(new[] { 1L }), Values(8, 9).view(1, 2)).flatten(), 3, 1, 8, 9);
        var written = matrix.clone();
        _ = written.index_copy_(0, tensor(new[] { 1L }), Values(8, 9).view(1, 2));
        Gives(written.flatten(), 3, 1, 8, 9);
        Gives(matrix.flatten(), 3, 1, 4, 2);
    }

    [Test]
    public void Children_and_buffers_have_names()
    {
        var module = new Module();
        Assert.That(module.named_children().Select(static c => c.name), Is.EqualTo(new[] { "inner" }));
        Assert.That(module.named_buffers().Select(static b => b.name), Is.EqualTo(new[] { "own", "inner.deep" }));
    }

    private sealed class Module : nn.Module
    {
        internal Module()
            : base("outer")
        {
            register_buffer("own", ones(1));
            register_module("inner", new Inner());
        }
    }

    private sealed class Inner : nn.Module
    {
        internal Inner()
            : base("inner") => register_buffer("deep", ones(1));
    }
}
