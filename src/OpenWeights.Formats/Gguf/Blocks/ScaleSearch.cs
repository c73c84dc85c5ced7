namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>
/// ggml's <c>make_qkx2_quants</c> with steps of 0.1: the scale and minimum of a group of values with the least weighted error.
/// </summary>
/// <param name="Highest">The highest level.</param>
/// <param name="FirstStep">What the first try adds to it.</param>
/// <param name="Steps">Number of tries after the first.</param>
/// <param name="Absolute">Whether errors are absolute ones; otherwise squared.</param>
internal readonly record struct ScaleSearch(int Highest, float FirstStep, int Steps, bool Absolute)
{
    /// <summary>Finds the scale.</summary>
    /// <param name="values">The values.</param>
    /// <param name="weights">The weight of each.</param>
    /// <param name="levels">Receives the level of each.</param>
    /// <param name="minimum">What is subtracted.</param>
    internal float Find(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, Span<byte> levels, out float minimum)
    {
        var (least, most, weight, weighted) = (values[0], values[0], weights[0], weights[0] * values[0]);
        for (var i = 1; i < values.Length; i++)
        {
            least = values[i] < least ? values[i] : least;
            most = values[i] > most ? values[i] : most;
            weight += weights[i];
            weighted += weights[i] * values[i];
        }

        least = least > 0 ? 0 : least;
        minimum = -least;
        if (most == least)
        {
            levels.Clear();
            return 0;
        }

        var inverse = Highest / (most - least);
        var scale = 1 / inverse;
        Quantise(values, inverse, least, levels);
        var bestError = Error(values, weights, levels, scale, least);
        Span<byte> tried = stackalloc byte[values.Length];
        for (var step = 0; step <= Steps; step++)
        {
            // As in ggml, a better minimum is where the next steps start from.
            Quantise(values, (FirstStep + (0.1f * step) + Highest) / (most - least), least, tried);
            var (newScale, newLeast) = Solve(values, weights, tried, weight, weighted);
            if (float.IsNaN(newScale))
            {
                continue;
            }

            var error = Error(values, weights, tried, newScale, newLeast);
            if (error < bestError)
            {
                tried.CopyTo(levels);
                (bestError, scale, least) = (error, newScale, newLeast);
            }
        }

        minimum = -least;
        return scale;
    }

    private void Quantise(ReadOnlySpan<float> values, float inverse, float least, Span<byte> levels)
    {
        for (var i = 0; i < values.Length; i++)
        {
            levels[i] = (byte)Math.Clamp(Rounding.Nearest(inverse * (values[i] - least)), 0, Highest);
        }
    }

    private float Error(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, ReadOnlySpan<byte> levels, float scale, float least)
    {
        var error = 0f;
        for (var i = 0; i < values.Length; i++)
        {
            var difference = (scale * levels[i]) + least - values[i];
            error += weights[i] * (Absolute ? Math.Abs(difference) : difference * difference);
        }

        return error;
    }

    /// <summary>The scale and minimum of least squares for given levels; not-a-number where there are none.</summary>
    private static (float Scale, float Least) Solve(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, ReadOnlySpan<byte> levels, float weight, float weighted)
    {
        var (sum, squares, products) = (0f, 0f, 0f);
        for (var i = 0; i < values.Length; i++)
        {
            sum += weights[i] * levels[i];
            squares += weights[i] * levels[i] * levels[i];
            products += weights[i] * levels[i] * values[i];
        }

        var determinant = (weight * squares) - (sum * sum);
        if (!(determinant > 0))
        {
            return (float.NaN, 0);
        }

        var least = ((squares * weighted) - (sum * products)) / determinant;
        return least > 0 ? (products / squares, 0) : (((weight * products) - (weighted * sum)) / determinant, least);
    }
}
