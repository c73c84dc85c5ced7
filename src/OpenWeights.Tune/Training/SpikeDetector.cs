namespace OpenWeights.Tune.Training;

/// <summary>Detects loss spikes.</summary>
internal sealed class SpikeDetector
{
    private const int Window = 50;
    private const int Least = 10;
    private const double Deviations = 6;
    private readonly Queue<double> _losses = new();

    /// <summary>The previous losses for comparison, oldest first; stored in checkpoints.</summary>
    public IReadOnlyList<double> Losses
    {
        get => [.. _losses];
        set
        {
            ArgumentNullException.ThrowIfNull(value);
            _losses.Clear();
            foreach (var loss in value)
            {
                _losses.Enqueue(loss);
            }
        }
    }

    /// <summary>Whether a loss is a spike: more than six standard deviations, and more than a tenth, above the mean of the last fifty.</summary>
    /// <param name="loss">The loss of a step; it is added to the previous losses.</param>
    public bool Sees(double loss)
    {
        var spike = false;
        if (_losses.Count >= Least)
        {
            var mean = _losses.Average();
            var deviation = Math.Sqrt(_losses.Average(l => (l - mean) * (l - mean)));
            spike = loss > mean + Math.Max(Deviations * deviation, 0.1 * Math.Abs(mean));
        }

        _losses.Enqueue(loss);
        if (_losses.Count > Window)
        {
            _ = _losses.Dequeue();
        }

        return spike;
    }
}
