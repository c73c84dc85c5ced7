using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// The largest singular values and vectors of a matrix by randomized subspace iteration (Halko et al., 2009, algorithms 4.4 and 5.1), with the
/// steps and random numbers of torch.svd_lowrank.
/// </summary>
internal static class LowRankSvd
{
    /// <summary>U, [rows, q], S, [q], and V, [columns, q], in the current dispose scope.</summary>
    /// <param name="matrix">The matrix, float32 or float64.</param>
    /// <param name="q">Number of singular values.</param>
    /// <param name="iterations">Subspace iterations.</param>
    /// <param name="generator">Source of the random numbers, on the CPU.</param>
    internal static (Tensor U, Tensor S, Tensor V) Of(Tensor matrix, long q, int iterations, Generator generator)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var isWide = matrix.size(0) < matrix.size(1);
        var tall = isWide ? matrix.t() : matrix;
        var basis = Basis(tall, q, iterations, generator);
        var (inner, s, vh) = linalg.svd(basis.t().mm(tall), fullMatrices: false);
        var (u, v) = (basis.mm(inner), vh.t());
        return isWide
            ? (v.MoveToOuterDisposeScope(), s.MoveToOuterDisposeScope(), u.MoveToOuterDisposeScope())
            : (u.MoveToOuterDisposeScope(), s.MoveToOuterDisposeScope(), v.MoveToOuterDisposeScope());
    }

    // An orthonormal basis of the range of a tall matrix, approximately.
    private static Tensor Basis(Tensor matrix, long q, int iterations, Generator generator)
    {
        var basis = Orthonormal(matrix.mm(empty([matrix.size(1), q], matrix.dtype).normal_(0, 1, generator).to(matrix.device)));
        for (var i = 0; i < iterations; i++)
        {
            basis = Orthonormal(matrix.mm(Orthonormal(matrix.t().mm(basis))));
        }

        return basis;
    }

    private static Tensor Orthonormal(Tensor columns) => linalg.qr(columns).Q;
}
