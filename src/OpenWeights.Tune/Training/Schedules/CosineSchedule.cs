namespace OpenWeights.Tune.Training.Schedules;

/// <summary>Half a cosine down to zero (Loshchilov and Hutter, 2017, without restarts).</summary>
public sealed class CosineSchedule : IRateSchedule
{
    /// <inheritdoc/>
    public string Name => "cosine";

    /// <inheritdoc/>
    public double Factor(double progress) => 0.5 * (1 + Math.Cos(Math.PI * progress));
}
