using System.Text;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>Optimizer state that ranks have parts of, joined to what one process has. A tensor's parts are consecutive, in the order of ranks.</summary>
/// <param name="ranks">The ranks.</param>
/// <param name="parameters">The trained parameters, whole.</param>
internal sealed class StateOfRanks(RankGroup ranks, IReadOnlyList<TrainedParameter> parameters)
{
    /// <summary>The whole state for a file; a tensor is joined when its bytes are asked for, by all ranks at the same time.</summary>
    /// <param name="own">This rank's parts.</param>
    internal IReadOnlyList<TensorToWrite> Joined(IReadOnlyList<(string Name, Tensor State)> own)
    {
        var device = parameters[0].Parameter.device;
        var all = ranks.Gather(Write(own), device).Select(Read).ToList();
        var here = own.ToDictionary(static s => s.Name, static s => s.State);
        return [.. all.SelectMany(static r => r).Select(static s => s.Name).Distinct().Select(name =>
        {
            var shapes = all.Select(r => r.Find(s => s.Name == name).Shape).ToList();
            long[] counts = [.. shapes.Select(static s => s?.Aggregate(1L, static (product, size) => product * size) ?? 0)];
            var dtype = all.SelectMany(static r => r).First(s => s.Name == name).DType;
            var shape = Shape(name, counts.Sum(), dtype, shapes.OfType<long[]>().ToList());
            return TensorFiles.ToWrite(name, dtype, shape, () => Join(here.GetValueOrDefault(name), counts, dtype, device).view(shape));
        })];
    }

    /// <summary>Joins the parts of a tensor; all ranks get it, in the current dispose scope.</summary>
    /// <param name="own">This rank's part, of any shape; null for none.</param>
    /// <param name="counts">Number of elements of each rank's.</param>
    /// <param name="dtype">Its data type.</param>
    /// <param name="device">Device of the engine's tensors.</param>
    internal Tensor Join(Tensor? own, IReadOnlyList<long> counts, ScalarType dtype, Device device)
    {
        using var nothing = no_grad();
        var longest = counts.Max();
        if (counts.Sum() == longest)
        {
            var values = own is null ? empty([longest], dtype, device) : own.to(device).reshape(-1).contiguous();
            ranks.Collectives.BeginBroadcast(values, Enumerable.Range(0, counts.Count).First(r => counts[r] > 0)).Wait();
            return values;
        }

        var (part, joined) = (zeros([longest], dtype, device), empty([longest * ranks.Size], dtype, device));
        if (own is not null)
        {
            _ = part.narrow(0, 0, own.numel()).copy_(own.reshape(-1));
        }

        ranks.Collectives.BeginAllGather(part, joined).Wait();
        return cat([.. counts.Select((c, r) => joined.narrow(0, r * longest, c))], 0);
    }

    /// <summary>The parameter that a state tensor belongs to.</summary>
    /// <typeparam name="T">What is known of the parameter.</typeparam>
    /// <param name="name">Name of the tensor: the parameter's, and what it is of it.</param>
    /// <param name="known">What is known of parameters by name.</param>
    internal static T? Find<T>(string name, IReadOnlyDictionary<string, T> known)
        where T : class
    {
        for (var end = name.LastIndexOf('.'); end > 0; end = name.LastIndexOf('.', end - 1))
        {
            if (known.TryGetValue(name[..end], out var found))
            {
                return found;
            }
        }

        return null;
    }

    // What one rank has whole has its shape. Of parts, 8-bit codes and their scales are flat; what else has an element for each of the parameter has its shape.
    private long[] Shape(string name, long count, ScalarType dtype, IReadOnlyList<long[]> parts) =>
        parts is [{ Length: not 1 } whole] ? whole
        : dtype != ScalarType.Byte && Find(name, parameters.ToDictionary(static p => p.Name)) is { } of && of.Parameter.numel() == count ? of.Parameter.shape : [count];

    private static byte[] Write(IReadOnlyList<(string Name, Tensor State)> own)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        writer.Write(own.Count);
        foreach (var (name, state) in own)
        {
            writer.Write(name);
            writer.Write((int)state.dtype);
            writer.Write(state.shape.Length);
            foreach (var size in state.shape)
            {
                writer.Write(size);
            }
        }

        writer.Flush();
        return stream.ToArray();
    }

    private static List<(string Name, ScalarType DType, long[]? Shape)> Read(byte[] bytes)
    {
        using var reader = new BinaryReader(new MemoryStream(bytes), Encoding.UTF8);
        return [.. Enumerable.Range(0, reader.ReadInt32()).Select(_ => (reader.ReadString(), (ScalarType)reader.ReadInt32(), (long[]?)[.. Enumerable.Range(0, reader.ReadInt32()).Select(_ => reader.ReadInt64())]))];
    }
}
