namespace OpenWeights.Tune.Benchmarks;

/// <summary>What a loading benchmark measured, the fastest of a few rounds each.</summary>
/// <param name="FileBytes">The size of the weight files.</param>
/// <param name="ReadSeconds">Reading the files through a buffer of 1 MiB.</param>
/// <param name="LoadSeconds">Loading the model, checks included.</param>
/// <param name="PeakMemoryBytes">How far loading raised the most physical memory that the process has held.</param>
public sealed record LoadingBenchmarkResult(long FileBytes, double ReadSeconds, double LoadSeconds, long PeakMemoryBytes)
{
    /// <summary>How many times as long loading takes as reading.</summary>
    public double Ratio => LoadSeconds / ReadSeconds;
}
