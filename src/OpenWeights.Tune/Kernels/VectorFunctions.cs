using System.Runtime.CompilerServices;

namespace OpenWeights.Tune.Kernels;

/// <summary>Functions of vectors. The standard library's versions are called for each vector instead of being inlined into loops.</summary>
internal static unsafe class VectorFunctions
{
    /// <summary>
    /// e^x with an error of at most one ulp: x = n ln 2 + r, and a polynomial of r (expf of the Cephes library; Moshier, 1989). Infinity on
    /// overflow, zero on underflow; NaN stays NaN.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static TVector Exponential<TVectors, TVector>(TVector x)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var within = TVectors.Smaller(TVectors.Create(89), TVectors.Larger(TVectors.Create(-104), x));
        var power = TVectors.Round(TVectors.Multiply(within, TVectors.Create(1.44269504f)));
        var rest = TVectors.MultiplyAdd(power, TVectors.Create(-0.693359375f), within);
        rest = TVectors.MultiplyAdd(power, TVectors.Create(2.12194440e-4f), rest);
        var sum = TVectors.MultiplyAdd(TVectors.Create(1.9875691500e-4f), rest, TVectors.Create(1.3981999507e-3f));
        sum = TVectors.MultiplyAdd(sum, rest, TVectors.Create(8.3334519073e-3f));
        sum = TVectors.MultiplyAdd(sum, rest, TVectors.Create(4.1665795894e-2f));
        sum = TVectors.MultiplyAdd(sum, rest, TVectors.Create(1.6666665459e-1f));
        sum = TVectors.MultiplyAdd(sum, rest, TVectors.Create(5.0000001201e-1f));
        sum = TVectors.MultiplyAdd(sum, TVectors.Multiply(rest, rest), TVectors.Add(rest, TVectors.Create(1)));
        return TVectors.Scale(sum, power);
    }

    /// <summary>tanh(x) = 1 - 2 / (e^2x + 1); near zero, where this cancels, a power series. Error at most 2e-7.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static TVector HyperbolicTangent<TVectors, TVector>(TVector x)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var one = TVectors.Create(1);
        var tanh = TVectors.Subtract(one, TVectors.Divide(TVectors.Create(2), TVectors.Add(Exponential<TVectors, TVector>(TVectors.Add(x, x)), one)));
        var square = TVectors.Multiply(x, x);
        var series = TVectors.MultiplyAdd(square, TVectors.Create(62f / 2835), TVectors.Create(-17f / 315));
        series = TVectors.MultiplyAdd(series, square, TVectors.Create(2f / 15));
        series = TVectors.MultiplyAdd(series, square, TVectors.Create(-1f / 3));
        series = TVectors.MultiplyAdd(TVectors.Multiply(series, square), x, x);
        return TVectors.WhereLess(square, TVectors.Create(1f / 16), series, tanh);
    }

    /// <summary>c tanh(x / c) in place.</summary>
    /// <param name="row">The values x.</param>
    /// <param name="count">Number of values.</param>
    /// <param name="cap">The soft cap c.</param>
    /// <param name="slopes">Destination of the derivative, 1 - tanh²; null if not needed.</param>
    internal static void Limit<TVectors, TVector>(float* row, nint count, float cap, float* slopes = null)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var (limit, one, i) = (TVectors.Create(cap), TVectors.Create(1), (nint)0);
        for (; i <= count - TVectors.Width; i += TVectors.Width)
        {
            var tanh = HyperbolicTangent<TVectors, TVector>(TVectors.Divide(TVectors.Load(row + i), limit));
            TVectors.Store(row + i, TVectors.Multiply(tanh, limit));
            if (slopes != null)
            {
                TVectors.Store(slopes + i, TVectors.Subtract(one, TVectors.Multiply(tanh, tanh)));
            }
        }

        for (; i < count; i++)
        {
            var tanh = MathF.Tanh(row[i] / cap);
            row[i] = tanh * cap;
            if (slopes != null)
            {
                slopes[i] = 1 - (tanh * tanh);
            }
        }
    }

    /// <summary>Multiplies numbers in place, elementwise.</summary>
    internal static void Multiply<TVectors, TVector>(float* row, float* factors, nint count)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        nint i = 0;
        for (; i <= count - TVectors.Width; i += TVectors.Width)
        {
            TVectors.Store(row + i, TVectors.Multiply(TVectors.Load(row + i), TVectors.Load(factors + i)));
        }

        for (; i < count; i++)
        {
            row[i] *= factors[i];
        }
    }

    /// <summary>The maximum of some numbers.</summary>
    internal static float Largest<TVectors, TVector>(float* row, nint count)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var (largest, i) = (float.NegativeInfinity, (nint)0);
        if (count >= TVectors.Width)
        {
            var found = TVectors.Load(row);
            for (i = TVectors.Width; i <= count - TVectors.Width; i += TVectors.Width)
            {
                found = TVectors.Larger(TVectors.Load(row + i), found);
            }

            largest = TVectors.Largest(found);
        }

        for (; i < count; i++)
        {
            largest = MathF.Max(largest, row[i]);
        }

        return largest;
    }

    /// <summary>exp(x - maximum) in place, and the sum. Sums of up to 1,024 numbers are float32, that of the sums float64, so that a large vocabulary costs no digits.</summary>
    internal static double Exponentials<TVectors, TVector>(float* row, nint count, float largest)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        const nint Block = 64;
        var (shift, total, i) = (TVectors.Create(largest), 0.0, (nint)0);
        while (i <= count - (2 * TVectors.Width))
        {
            var (even, odd, last) = (TVectors.Zero, TVectors.Zero, Math.Min(count, i + (Block * TVectors.Width)) - (2 * TVectors.Width));
            for (; i <= last; i += 2 * TVectors.Width)
            {
                even = TVectors.Add(even, Shifted<TVectors, TVector>(row + i, shift));
                odd = TVectors.Add(odd, Shifted<TVectors, TVector>(row + i + TVectors.Width, shift));
            }

            total += TVectors.Sum(TVectors.Add(even, odd));
        }

        if (i <= count - TVectors.Width)
        {
            total += TVectors.Sum(Shifted<TVectors, TVector>(row + i, shift));
            i += TVectors.Width;
        }

        for (; i < count; i++)
        {
            row[i] = MathF.Exp(row[i] - largest);
            total += row[i];
        }

        return total;
    }

    /// <summary>Multiplies numbers in place by a factor.</summary>
    internal static void Scale<TVectors, TVector>(float* row, nint count, float factor)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var (by, i) = (TVectors.Create(factor), (nint)0);
        for (; i <= count - TVectors.Width; i += TVectors.Width)
        {
            TVectors.Store(row + i, TVectors.Multiply(TVectors.Load(row + i), by));
        }

        for (; i < count; i++)
        {
            row[i] *= factor;
        }
    }

    /// <summary>Replaces the gradient of softmax weights by that of the scores: p (dp - sum of p dp).</summary>
    /// <param name="weights">The weights p.</param>
    /// <param name="gradient">The gradient dp.</param>
    /// <param name="count">Number of values.</param>
    /// <returns>The sum of p dp.</returns>
    internal static float SoftmaxGradient<TVectors, TVector>(float* weights, float* gradient, nint count)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var (dot, i) = (TVectors.Zero, (nint)0);
        for (; i <= count - TVectors.Width; i += TVectors.Width)
        {
            dot = TVectors.MultiplyAdd(TVectors.Load(weights + i), TVectors.Load(gradient + i), dot);
        }

        var sum = TVectors.Sum(dot);
        for (; i < count; i++)
        {
            sum += weights[i] * gradient[i];
        }

        var all = TVectors.Create(sum);
        for (i = 0; i <= count - TVectors.Width; i += TVectors.Width)
        {
            TVectors.Store(gradient + i, TVectors.Multiply(TVectors.Subtract(TVectors.Load(gradient + i), all), TVectors.Load(weights + i)));
        }

        for (; i < count; i++)
        {
            gradient[i] = (gradient[i] - sum) * weights[i];
        }

        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Shifted<TVectors, TVector>(float* place, TVector shift)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var value = Exponential<TVectors, TVector>(TVectors.Subtract(TVectors.Load(place), shift));
        TVectors.Store(place, value);
        return value;
    }
}
