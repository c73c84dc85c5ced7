namespace OpenWeights.Tune.Benchmarks;

/// <summary>What a benchmark of the data pipeline measured.</summary>
/// <param name="Bytes">The size of the file.</param>
/// <param name="Rows">The rows that were made of it.</param>
/// <param name="Tokens">Their tokens.</param>
/// <param name="Cores">The processors that took part.</param>
/// <param name="Seconds">The time from the first byte to the last token row, the tokenizer being loaded before.</param>
/// <param name="ProcessorSeconds">The processor time that all threads used in it.</param>
/// <param name="PeakMemoryBytes">The most physical memory that the process has held.</param>
public sealed record DataBenchmarkResult(long Bytes, long Rows, long Tokens, int Cores, double Seconds, double ProcessorSeconds, long PeakMemoryBytes)
{
    /// <summary>Bytes of the file a second of one busy processor: what a core does, however many others share the machine.</summary>
    public double BytesPerProcessorSecond => Bytes / ProcessorSeconds;

    /// <summary>Bytes of the file a second.</summary>
    public double BytesPerSecond => Bytes / Seconds;
}
