namespace OpenWeights.Tune.Benchmarks;

/// <summary>What a loading benchmark measured, the fastest of a few rounds each.</summary>
/// <param name="FileBytes">The size of the weight files.</param>
/// <param name="ReadSeconds">Reading the files through a buffer of 1 MiB.</param>
/// <param name="FreshReadSeconds">Reading the files whole into memory that the process did not have yet, as whoever wants to use what is in them must.</param>
/// <param name="LoadSeconds">Loading the model, checks included.</param>
/// <param name="PeakMemoryBytes">How far loading raised the most physical memory that the process has held.</param>
public sealed record LoadingBenchmarkResult(long FileBytes, double ReadSeconds, double FreshReadSeconds, double LoadSeconds, long PeakMemoryBytes)
{
    /// <summary>How many times as long loading takes as reading.</summary>
    public double Ratio => LoadSeconds / ReadSeconds;

    /// <summary>How many times as long loading takes as reading into fresh memory.</summary>
    public double FreshRatio => LoadSeconds / FreshReadSeconds;
}
