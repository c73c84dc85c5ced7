using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// Writes a model's weights as transformers' <c>save_pretrained</c> does: one <c>model.safetensors</c>, or
/// <c>model-00001-of-0000N.safetensors</c> and so on with their index
/// (<see href="https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/serialization/_base.py"/>).
/// </summary>
public static class CheckpointWriter
{
    /// <summary>transformers' default for the largest shard: 5 GB.</summary>
    public const long DefaultShardBytes = 5_000_000_000;

    /// <summary>Writes the weights into a folder that has none yet.</summary>
    /// <param name="folder">An existing folder. To replace a checkpoint, build a new folder with <see cref="AtomicFolder"/>.</param>
    /// <param name="tensors">The tensors in the model's order, which decides what comes into which shard: each is put in the
    /// current shard, and a shard ends before the tensor that would make it too large. A tensor that alone is too large has a shard
    /// of its own.</param>
    /// <param name="maxShardBytes">The most bytes of tensors in a shard.</param>
    /// <param name="metadata">Texts for every file's <c>__metadata__</c>; left out: <c>format: pt</c>, as PyTorch's tools want it.</param>
    /// <returns>The names of the files written, the index last.</returns>
    /// <exception cref="ArgumentException">Two tensors have one name, or the size is not positive.</exception>
    /// <exception cref="InvalidOperationException">A tensor's callback gave more or fewer bytes than the tensor has.</exception>
    /// <exception cref="IOException">The folder holds weights already, or the disk refused; the message names the path and the
    /// cause.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public static IReadOnlyList<string> Write(
        string folder,
        IReadOnlyList<TensorToWrite> tensors,
        long maxShardBytes = DefaultShardBytes,
        IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        ArgumentNullException.ThrowIfNull(tensors);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxShardBytes);
        CheckNames(tensors);
        RefuseOldWeights(folder);
        metadata ??= new Dictionary<string, string> { ["format"] = "pt" };
        var shards = Split(tensors, maxShardBytes);
        var names = shards.Count == 1
            ? [CheckpointNames.Single]
            : Enumerable.Range(1, shards.Count).Select(number => CheckpointNames.Shard(number, shards.Count)).ToList();
        foreach (var (name, shard) in names.Zip(shards))
        {
            SafetensorsWriter.Write(Path.Combine(folder, name), shard, metadata);
        }

        if (shards.Count > 1)
        {
            AtomicFile.WriteText(Path.Combine(folder, CheckpointNames.Index), Index(names, shards));
            names.Add(CheckpointNames.Index);
        }

        return names;
    }

    private static void CheckNames(IReadOnlyList<TensorToWrite> tensors)
    {
        var names = new HashSet<string>(StringComparer.Ordinal);
        var twice = tensors.Where(tensor => !names.Add(tensor.Name)).Select(tensor => tensor.Name).Distinct().ToList();
        if (twice.Count > 0)
        {
            throw new ArgumentException($"these tensor names occur more than once: {Wording.List(twice)}", nameof(tensors));
        }
    }

    /// <summary>Refuses a folder with other weights: readers could use the stale shards or index instead of the new files.</summary>
    private static void RefuseOldWeights(string folder)
    {
        string[] patterns = ["model*.safetensors", "model*.safetensors.index.json"];
        var old = Directory.Exists(folder)
            ? patterns.SelectMany(pattern => Directory.EnumerateFiles(folder, pattern)).Select(Path.GetFileName).FirstOrDefault()
            : null;
        if (old is not null)
        {
            throw new IOException($"cannot write weights into {folder}: it holds {old} already; write into a new folder");
        }
    }

    private static List<List<TensorToWrite>> Split(IReadOnlyList<TensorToWrite> tensors, long maxShardBytes)
    {
        var shards = new List<List<TensorToWrite>>();
        var current = new List<TensorToWrite>();
        var currentBytes = 0L;
        foreach (var tensor in tensors)
        {
            if (tensor.ByteLength > maxShardBytes)
            {
                shards.Add([tensor]);
                continue;
            }

            if (currentBytes > maxShardBytes - tensor.ByteLength)
            {
                shards.Add(current);
                (current, currentBytes) = ([], 0);
            }

            current.Add(tensor);
            currentBytes += tensor.ByteLength;
        }

        if (current.Count > 0 || shards.Count == 0)
        {
            shards.Add(current);
        }

        return shards;
    }

    private static string Index(List<string> names, List<List<TensorToWrite>> shards)
    {
        var weightMap = new JsonObject();
        foreach (var (name, shard) in names.Zip(shards))
        {
            foreach (var tensor in shard)
            {
                weightMap[tensor.Name] = name;
            }
        }

        var index = new JsonObject
        {
            ["metadata"] = new JsonObject { ["total_size"] = shards.Sum(shard => shard.Sum(tensor => tensor.ByteLength)) },
            ["weight_map"] = weightMap,
        };
        return PythonJson.Serialize(index) + "\n";
    }
}
