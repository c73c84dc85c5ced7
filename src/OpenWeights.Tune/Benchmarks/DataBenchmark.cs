using System.Diagnostics;
using OpenWeights.Formats.Files;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>Times the way from a file to token rows as a run goes it: read, understood, put through the chat template, tokenised, written.</summary>
public static class DataBenchmark
{
    /// <summary>Makes token rows of a file once, in a process that has not done so before: what the compiler takes counts.</summary>
    /// <param name="tokenizer">The tokenizer's folder or file.</param>
    /// <param name="source">The data set, a file that is not compressed.</param>
    /// <param name="trainOn">assistant, completion or all: data.train_on.</param>
    /// <exception cref="InvalidDataException">A row cannot be read, or there are none.</exception>
    /// <exception cref="IOException">A file is missing.</exception>
    public static DataBenchmarkResult Run(string tokenizer, DataSource source, string trainOn)
    {
        var bytes = DataFile.Files(source).Sum(static f => FileLinks.File(f).Length);
        var rows = new RowTokenizer(Tokenizer.Load(tokenizer), trainOn);
        using var process = Process.GetCurrentProcess();
        var (clock, processor) = (Stopwatch.StartNew(), process.TotalProcessorTime);
        var store = StoreCache.Temporary(new SourceTokenizer(source, rows, int.MaxValue, skipBad: false));
        process.Refresh();
        var used = (process.TotalProcessorTime - processor).TotalSeconds;
        return new DataBenchmarkResult(
            bytes, store.Facts.Files.Sum(static f => f.Rows), store.Facts.Tokens, Environment.ProcessorCount, clock.Elapsed.TotalSeconds, used, ProcessMemory.Peak);
    }
}

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
