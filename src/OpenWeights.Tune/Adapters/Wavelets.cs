using System.Numerics;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Daubechies' wavelets, their symlets and coiflets, and one level of the inverse transform of a matrix, as PyWavelets has them.</summary>
internal static class Wavelets
{
    // Which pairs of roots a symlet takes from outside the unit circle, counted from the largest inside: those of PyWavelets.
    private static readonly Dictionary<int, int[]> s_turned = new()
    {
        [2] = [],
        [3] = [],
        [4] = [0],
        [5] = [1],
        [6] = [0, 2],
        [7] = [2],
        [8] = [0, 2],
        [9] = [1, 2],
        [10] = [0, 2, 4],
    };

    /// <summary>The low-pass filter of the inverse transform.</summary>
    /// <param name="name">Name of the wavelet: haar, db1 to db10, sym2 to sym10, or coif1 to coif3.</param>
    internal static double[] LowPass(string name)
    {
        if (name.StartsWith("coif", StringComparison.Ordinal))
        {
            return Coiflets.LowPass(int.Parse(name.AsSpan("coif".Length), System.Globalization.CultureInfo.InvariantCulture));
        }

        var order = name == "haar" ? 1 : int.Parse(name.AsSpan().TrimStart("dbsym"), System.Globalization.CultureInfo.InvariantCulture);
        var turned = name.StartsWith("sym", StringComparison.Ordinal) ? s_turned[order] : [];

        // The roots of sum of C(order - 1 + k, k) y^k give those of the filter by y = (2 - z - 1 / z) / 4; the smaller of each pair is taken
        // (Daubechies, 1992, section 6.1).
        Complex[] filter = [1];
        for (var i = 0; i < order; i++)
        {
            filter = Times(filter, -1);
        }

        var (pair, last) = (-1, double.PositiveInfinity);
        foreach (var root in Roots([.. Enumerable.Range(0, order).Select(k => Binomial(order - 1 + k, k))]).Select(Inner).OrderByDescending(static r => r.Magnitude))
        {
            (pair, last) = last - root.Magnitude > 1e-6 ? (pair + 1, root.Magnitude) : (pair, last);
            filter = Times(filter, turned.Contains(pair) ? 1 / root : root);
        }

        var sum = filter.Aggregate(Complex.Zero, static (a, b) => a + b).Real;
        return [.. filter.Select(c => c.Real / sum * Math.Sqrt(2))];
    }

    /// <summary>One level of the inverse transform.</summary>
    /// <param name="bands">The coefficients in four quarters, [2 rows, 2 columns].</param>
    /// <param name="name">Name of the wavelet.</param>
    internal static Tensor Inverse(Tensor bands, string name)
    {
        var low = LowPass(name);
        double[] high = [.. low.Select((_, i) => (i % 2 == 0 ? 1 : -1) * low[low.Length - 1 - i])];
        var (rows, columns) = (bands.size(0) / 2, bands.size(1) / 2);
        Tensor Band(long row, long column) => bands.narrow(0, row * rows, rows).narrow(1, column * columns, columns);

        // The quarter at the top right is high-pass along the rows' direction, the one at the bottom left along the columns'.
        var left = Along(Band(0, 0), low).Plus(Along(Band(0, 1), high));
        var right = Along(Band(1, 0), low).Plus(Along(Band(1, 1), high));
        return Along(left.t(), low).Plus(Along(right.t(), high)).t();
    }

    // Doubles the number of rows: row 2 i + t gets filter[t] times row i; PyWavelets cuts what exceeds at both ends.
    private static Tensor Along(Tensor rows, double[] filter)
    {
        var (count, taps) = (rows.size(0), filter.Length / 2);
        Tensor Phase(int first)
        {
            var sum = zeros([count + taps - 1, rows.size(1)], rows.dtype, rows.device);
            for (var t = 0; t < taps; t++)
            {
                using Scalar factor = filter[(2 * t) + first];
                var placed = rows.mul(factor);
                sum = sum.Plus(Padded(placed, t, taps - 1 - t));
            }

            return sum;
        }

        var both = stack([Phase(0), Phase(1)], 1).reshape(-1, rows.size(1));
        var cut = ((2 * filter.Length) - 3) / 2;
        return both.narrow(0, cut, both.size(0) - (2 * cut));
    }

    private static Tensor Padded(Tensor rows, long before, long after)
    {
        Tensor Zeros(long count) => zeros([count, rows.size(1)], rows.dtype, rows.device);
        return before + after == 0 ? rows : cat([Zeros(before), rows, Zeros(after)]);
    }

    // The root z inside the unit circle of y = (2 - z - 1 / z) / 4.
    private static Complex Inner(Complex y)
    {
        var half = 1 - (2 * y);
        var root = half + Complex.Sqrt((half * half) - 1);
        return root.Magnitude < 1 ? root : 1 / root;
    }

    private static double Binomial(int n, int k) => Enumerable.Range(1, k).Aggregate(1.0, (product, i) => product * (n - k + i) / i);

    // The polynomial times (z - root), the highest power first.
    private static Complex[] Times(Complex[] polynomial, Complex root)
    {
        var product = new Complex[polynomial.Length + 1];
        for (var i = 0; i < polynomial.Length; i++)
        {
            product[i] += polynomial[i];
            product[i + 1] -= root * polynomial[i];
        }

        return product;
    }

    // All roots at once (Durand and Kerner), of coefficients with the lowest power first.
    private static Complex[] Roots(double[] coefficients)
    {
        var degree = coefficients.Length - 1;
        Complex[] roots = [.. Enumerable.Range(0, degree).Select(static i => Complex.Pow(new Complex(0.4, 0.9), i))];
        Complex Value(Complex z) => coefficients.Reverse().Aggregate(Complex.Zero, (sum, c) => (sum * z) + (c / coefficients[^1]));
        for (var round = 0; round < 500; round++)
        {
            for (var i = 0; i < degree; i++)
            {
                var others = Complex.One;
                for (var j = 0; j < degree; j++)
                {
                    others *= j == i ? Complex.One : roots[i] - roots[j];
                }

                roots[i] -= Value(roots[i]) / others;
            }
        }

        return roots;
    }
}
