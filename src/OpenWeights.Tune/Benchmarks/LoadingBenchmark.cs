using System.Diagnostics;
using System.Runtime.InteropServices;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>Compares the time to load a checkpoint with the time to read its files, both from a warm page cache.</summary>
internal static class LoadingBenchmark
{
    private const int Rounds = 5;
    private const int Block = 1 << 20;

    /// <summary>Writes a Llama model of about the given size, reads its files and loads it several times each, and deletes it.</summary>
    /// <param name="bytes">Size of its weights.</param>
    /// <param name="stored">Data type of the stored weights.</param>
    /// <param name="computed">Data type to load them as.</param>
    /// <param name="device">Target device.</param>
    /// <param name="folder">The folder to create; it must not exist.</param>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static LoadingBenchmarkResult Run(long bytes, ScalarType stored, ScalarType computed, Device device, string folder)
    {
        if (Path.Exists(folder))
        {
            throw new IOException($"{folder} already exists; choose another folder, or remove it.");
        }

        try
        {
            var size = Write(bytes, stored, folder);
            var files = Directory.GetFiles(folder, "*.safetensors");
            _ = ReadAll(files);
            var read = Fastest(() => ReadAll(files));
            var before = ProcessMemory.Peak;
            var load = Fastest(() => ModelLoader.Load(folder, computed, device).Dispose());
            var memory = ProcessMemory.Peak - before;

            // Last, because it keeps a whole file in memory.
            var fresh = Fastest(() => ReadFresh(files));
            return new LoadingBenchmarkResult(size, read, fresh, load, memory);
        }
        finally
        {
            if (Directory.Exists(folder))
            {
                Directory.Delete(folder, recursive: true);
            }
        }
    }

    private static double Fastest(Action work) => Enumerable.Range(0, Rounds).Min(_ =>
    {
        var clock = Stopwatch.StartNew();
        work();
        return clock.Elapsed.TotalSeconds;
    });

    private static long ReadAll(IEnumerable<string> files)
    {
        var (buffer, total) = (new byte[Block], 0L);
        foreach (var file in files)
        {
            using var handle = File.OpenHandle(file, options: FileOptions.SequentialScan);
            int count;
            for (long at = 0; (count = RandomAccess.Read(handle, buffer, at)) > 0; at += count)
            {
                total += count;
            }
        }

        return total;
    }

    private static unsafe void ReadFresh(IEnumerable<string> files)
    {
        foreach (var file in files)
        {
            using var handle = File.OpenHandle(file, options: FileOptions.SequentialScan);
            var (length, at) = (RandomAccess.GetLength(handle), 0L);
            var memory = (byte*)NativeMemory.Alloc((nuint)length);
            try
            {
                for (int count; at < length && (count = RandomAccess.Read(handle, new Span<byte>(memory + at, (int)Math.Min(length - at, 1 << 30)), at)) > 0; at += count)
                {
                }
            }
            finally
            {
                NativeMemory.Free(memory);
            }
        }
    }

    // Any bytes serve, since only reading is measured.
    private static long Write(long bytes, ScalarType stored, string folder)
    {
        var family = new LlamaFamily();
        var width = bytes < 1L << 28 ? 256 : 2048;
        var shape = new ModelShape { HiddenSize = width, IntermediateSize = 3 * width, Heads = width / 128, KeyValueHeads = 2, VocabularySize = 16 * width, TiedEmbeddings = false };
        long Elements(int layers) => Weights(shape with { Layers = layers }).Sum(static w => w.Shape.Aggregate(1L, static (product, size) => product * size));
        using var unit = empty([1], stored);
        var each = Elements(2) - Elements(1);
        var layers = Math.Max(1, (int)Math.Round((((double)bytes / unit.element_size()) - Elements(1)) / each) + 1);
        var block = new byte[Block];
        new Random(1).NextBytes(block);
        _ = Directory.CreateDirectory(folder);
        var json = family.NewConfig(shape with { Layers = layers });
        AtomicFile.WriteText(Path.Combine(folder, ModelFolder.ConfigName), PythonJson.Serialize(json, indent: 2));
        _ = CheckpointWriter.Write(folder, [.. Weights(shape with { Layers = layers }).Select(w => new TensorToWrite(w.Name, ToFile(stored), w.Shape, stream =>
        {
            var left = w.Shape.Aggregate(unit.element_size(), static (product, size) => product * size);
            for (; left > 0; left -= Block)
            {
                stream.Write(block, 0, (int)Math.Min(left, Block));
            }
        }))]);
        return Directory.GetFiles(folder, "*.safetensors").Sum(static f => new FileInfo(f).Length);

        IEnumerable<(string Name, long[] Shape)> Weights(ModelShape sizes) =>
            WeightList.Of(FamilyRegistry.Read(family.NewConfig(sizes), "the benchmark's sizes")).Select(static w => (w.Key, w.Value.Select(static d => d.Size).ToArray()));
    }

    private static DType ToFile(ScalarType type) => type switch
    {
        ScalarType.BFloat16 => DType.BF16,
        ScalarType.Float16 => DType.F16,
        _ => DType.F32,
    };
}

/// <summary>Result of a loading benchmark; times are the fastest of several rounds.</summary>
/// <param name="FileBytes">Size of the weight files.</param>
/// <param name="ReadSeconds">Time to read the files through a buffer of 1 MiB.</param>
/// <param name="FreshReadSeconds">Time to read the files completely into newly allocated memory, as any program must that uses their
/// contents.</param>
/// <param name="LoadSeconds">Time to load the model, including checks.</param>
/// <param name="PeakMemoryBytes">Increase of the process's peak physical memory by loading.</param>
internal sealed record LoadingBenchmarkResult(long FileBytes, double ReadSeconds, double FreshReadSeconds, double LoadSeconds, long PeakMemoryBytes)
{
    /// <summary>Load time relative to read time.</summary>
    public double Ratio => LoadSeconds / ReadSeconds;

    /// <summary>Load time relative to the time of reading into newly allocated memory.</summary>
    public double FreshRatio => LoadSeconds / FreshReadSeconds;
}
