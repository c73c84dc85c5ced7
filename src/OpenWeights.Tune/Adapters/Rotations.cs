using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Orthogonal matrices from skew-symmetric ones, in blocks.</summary>
internal static class Rotations
{
    /// <summary>Identity matrices, [count, size, size].</summary>
    /// <param name="count">Their number.</param>
    /// <param name="like">Matrices of that size, dtype and device.</param>
    internal static Tensor Identity(long count, Tensor like) => diag_embed(ones([count, like.size(1)], like.dtype, like.device));

    /// <summary>Skew-symmetric matrices from their upper triangles, row by row.</summary>
    /// <param name="triangles">The upper triangles without the diagonal, [blocks, size (size - 1) / 2].</param>
    /// <param name="size">Size of a block.</param>
    internal static Tensor Skew(Tensor triangles, long size)
    {
        using var scope = NewDisposeScope();
        var (places, signs) = (new long[size * size], new float[size * size]);
        long next = 0;
        for (long row = 0; row < size; row++)
        {
            for (var column = row + 1; column < size; column++)
            {
                (places[(row * size) + column], signs[(row * size) + column]) = (next, 1);
                (places[(column * size) + row], signs[(column * size) + row]) = (next, -1);
                next++;
            }
        }

        if (size == 1)
        {
            // No entry, whose sum is zero and has the gradient's path.
            return triangles.sum([1], keepdim: true).unsqueeze(-1).MoveToOuterDisposeScope();
        }

        var (index, sign) = (tensor(places, [size * size], device: triangles.device), tensor(signs, [size * size], device: triangles.device));
        return triangles.index_select(1, index).mul(sign).view(-1, size, size).MoveToOuterDisposeScope();
    }

    /// <summary>Cayley's transform of skew-symmetric matrices, (I - S) (I + S)⁻¹.</summary>
    /// <param name="skew">The matrices, [blocks, size, size].</param>
    internal static Tensor Cayley(Tensor skew)
    {
        using var scope = NewDisposeScope();
        var identity = Identity(skew.size(0), skew);

        // The factors commute: X (I + S) = I - S has the same solution as (I + S) X = I - S.
        return linalg.solve(identity.Plus(skew), identity.sub(skew)).MoveToOuterDisposeScope();
    }

    /// <summary>Cayley's transform with the inverse as a Neumann series, by PEFT's terms: I + 2 S + 2 S² + ... + Sⁿ⁻¹.</summary>
    /// <param name="skew">The matrices, [blocks, size, size].</param>
    /// <param name="terms">Number of terms n.</param>
    internal static Tensor Neumann(Tensor skew, int terms)
    {
        using var scope = NewDisposeScope();
        using Scalar two = 2;
        var sum = Identity(skew.size(0), skew);
        if (terms > 1)
        {
            sum = sum.add(skew, two);
        }

        if (terms > 2)
        {
            var power = skew.bmm(skew);
            sum = sum.add(power, two);
            for (var i = 3; i < terms - 1; i++)
            {
                power = power.bmm(skew);
                sum = sum.add(power, two);
            }

            sum = sum.Plus(power.bmm(skew));
        }

        return sum.MoveToOuterDisposeScope();
    }

    /// <summary>Columns in blocks, each times its matrix: [rows, blocks x size].</summary>
    /// <param name="states">The columns, [rows, blocks x size].</param>
    /// <param name="blocks">The matrices, [blocks, size, size], or one for all blocks.</param>
    internal static Tensor Apply(Tensor states, Tensor blocks)
    {
        using var scope = NewDisposeScope();
        var (rows, size) = (states.size(0), blocks.size(1));
        return blocks.size(0) == 1
            ? states.reshape(-1, size).mm(blocks.select(0, 0)).view(rows, -1).MoveToOuterDisposeScope()
            : states.view(rows, -1, size).transpose(0, 1).bmm(blocks).transpose(0, 1).reshape(rows, -1).MoveToOuterDisposeScope();
    }
}
