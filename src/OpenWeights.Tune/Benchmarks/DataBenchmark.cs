using System.Diagnostics;
using OpenWeights.Formats.Files;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>
/// Measures the data pipeline of a run, from a file to token rows: reading, parsing, chat template, tokenization, writing.
/// </summary>
internal static class DataBenchmark
{
    /// <summary>Tokenizes a file once, in a new process: JIT compilation is included.</summary>
    /// <param name="tokenizer">Folder or file of the tokenizer.</param>
    /// <param name="source">The data set, an uncompressed file.</param>
    /// <param name="trainOn">assistant, final, reasoning, completion or all, as in data.train_on.</param>
    /// <exception cref="InvalidDataException">A row cannot be read, or there are no rows.</exception>
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

/// <summary>Result of a data pipeline benchmark.</summary>
/// <param name="Bytes">Size of the file.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Tokens">Number of tokens.</param>
/// <param name="Cores">Number of processors used.</param>
/// <param name="Seconds">Time from the first byte to the last token row, in seconds, without loading the tokenizer.</param>
/// <param name="ProcessorSeconds">Processor time of all threads, in seconds.</param>
/// <param name="PeakMemoryBytes">Peak physical memory of the process.</param>
internal sealed record DataBenchmarkResult(long Bytes, long Rows, long Tokens, int Cores, double Seconds, double ProcessorSeconds, long PeakMemoryBytes)
{
    /// <summary>Bytes per second of processor time: the throughput of one core, regardless of other load on the machine.</summary>
    public double BytesPerProcessorSecond => Bytes / ProcessorSeconds;

    /// <summary>Bytes per second.</summary>
    public double BytesPerSecond => Bytes / Seconds;
}
