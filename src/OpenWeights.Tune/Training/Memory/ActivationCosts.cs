namespace OpenWeights.Tune.Training.Memory;

/// <summary>Activations of a micro-batch, by where they are, in bytes.</summary>
/// <param name="Inputs">What all layers have besides the residual stream.</param>
/// <param name="Layers">Those of each layer.</param>
/// <param name="Head">What head and loss need, when all layers have stored theirs.</param>
internal sealed record ActivationCosts(long Inputs, IReadOnlyList<LayerActivations> Layers, long Head)
{
    /// <summary>The peak.</summary>
    internal long Total => Inputs + Peak(0, Layers.Count, Head);

    /// <summary>The same, or what sampling holds where that is more.</summary>
    /// <param name="sampling">What sampling holds; null for nothing.</param>
    internal ActivationCosts AtLeast(SamplingMemory? sampling) => sampling is null ? this
        : this with { Layers = [.. Layers.Zip(sampling.States, static (l, bytes) => l with { Stored = Math.Max(l.Stored, bytes) })], Head = Math.Max(Head, sampling.Scores) };

    /// <summary>The peak of some successive layers.</summary>
    /// <param name="first">The first.</param>
    /// <param name="count">Their number.</param>
    /// <param name="head">What is needed behind them.</param>
    internal long Peak(int first, int count, long head)
    {
        var (stored, most) = (0L, 0L);
        foreach (var layer in Layers.Skip(first).Take(count))
        {
            stored += layer.Before;
            most = Math.Max(most, stored + layer.Working);
            stored += layer.Stored;
        }

        return Math.Max(most, stored + head);
    }
}

/// <summary>Activations of a layer, in bytes.</summary>
/// <param name="Before">What it stores before it needs most.</param>
/// <param name="Working">What it needs at once at most.</param>
/// <param name="Stored">What it stores until its backward, besides.</param>
internal readonly record struct LayerActivations(long Before, long Working, long Stored);
