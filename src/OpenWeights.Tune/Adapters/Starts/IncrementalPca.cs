using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// Principal components of rows that come in batches (Ross et al., 2008, as in scikit-learn's IncrementalPCA): the components so far, times their
/// singular values, take part in the decomposition of the next batch. Decompositions are PEFT's, with the same random numbers.
/// </summary>
internal sealed class IncrementalPca(int components) : IDisposable
{
    private const int Iterations = 4;
    private const long Seed = 42;

    private long _seen;
    private Tensor? _mean;
    private Tensor? _variance;

    /// <summary>The components, [components, features]; null before the first batch.</summary>
    internal Tensor? Components { get; private set; }

    /// <summary>Their singular values, [components].</summary>
    internal Tensor? SingularValues { get; private set; }

    /// <summary>The share of the variance that each explains, [components], float64.</summary>
    internal Tensor? Explained { get; private set; }

    /// <summary>Number of components.</summary>
    internal int Count => components;

    /// <summary>Adds a batch.</summary>
    /// <param name="rows">At least as many rows as components, [rows, features], float32.</param>
    internal void Add(Tensor rows)
    {
        using var scope = NewDisposeScope();
        var count = rows.size(0);
        var exact = rows.to(float64);
        var (mean, variance, total) = Moments(exact, count);
        Tensor centred;
        if (Components is null)
        {
            centred = exact.sub(mean).to(float32);
        }
        else
        {
            var own = rows.mean([0L]);
            var correction = _mean!.sub(own).mul(Math.Sqrt((double)_seen / total * count));
            centred = cat([SingularValues!.view(-1, 1).mul(Components).to(float64), rows.sub(own).to(float64), correction.unsqueeze(0)]);
        }

        using var generator = new Generator((ulong)Seed, CPU);
        var (_, s, v) = LowRankSvd.Of(centred, 2L * components, Iterations, generator);
        var kept = v.t().narrow(0, 0, components);
        var explained = s.square().to(float64).div(variance.mul(total).sum()).narrow(0, 0, components);
        Keep(scope, (Flipped(kept), s.narrow(0, 0, components).clone(), explained.clone()), (mean, variance, total));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var tensor in new[] { _mean, _variance, Components, SingularValues, Explained })
        {
            tensor?.Dispose();
        }
    }

    private void Keep(TorchSharp.DisposeScope scope, (Tensor Components, Tensor Values, Tensor Explained) found, (Tensor Mean, Tensor Variance, long Total) moments)
    {
        Dispose();
        (Components, SingularValues, Explained) = (scope.Detach(found.Components), scope.Detach(found.Values), scope.Detach(found.Explained));
        (_mean, _variance, _seen) = (scope.Detach(moments.Mean), scope.Detach(moments.Variance), moments.Total);
    }

    // Mean and variance of all rows so far, with a correction for rounding.
    private (Tensor Mean, Tensor Variance, long Total) Moments(Tensor rows, long count)
    {
        var total = _seen + count;
        var sum = rows.sum([0L]);
        var before = _mean is null ? zeros_like(sum) : _mean.mul(_seen);
        var deviations = rows.sub(sum.div(count));
        var spread = deviations.square().sum([0L]).sub(deviations.sum([0L]).square().div(count));
        if (_variance is not null)
        {
            var ratio = (double)_seen / count;
            spread = spread.add(_variance.mul(_seen)).add(before.div(ratio).sub(sum).square().mul(ratio / total));
        }

        return (before.add(sum).div(total), spread.div(total), total);
    }

    // The largest value of each component is positive, so that those of two batches can be compared.
    private static Tensor Flipped(Tensor components)
    {
        var largest = components.gather(1, components.abs().argmax(1, keepdim: true));
        return components.mul(largest.sign());
    }
}
