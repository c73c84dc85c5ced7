using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Safetensors;

/// <summary>model.safetensors.index.json: which shard holds which tensor.</summary>
internal sealed class CheckpointIndex
{
    private CheckpointIndex(string path, IReadOnlyDictionary<string, string> shardOf)
    {
        Path = path;
        ShardOf = shardOf;
        Shards = [.. shardOf.Values.Distinct().Order(StringComparer.Ordinal)];
    }

    public string Path { get; }

    /// <summary>The shard's file name for each tensor's name.</summary>
    public IReadOnlyDictionary<string, string> ShardOf { get; }

    /// <summary>The shards' file names, in order.</summary>
    public IReadOnlyList<string> Shards { get; }

    /// <summary>Reads an index. <c>metadata.total_size</c> is not relied on: files in use have wrong ones, and every shard's size
    /// is checked by its own header.</summary>
    /// <exception cref="InvalidDataException">It is not valid, or names a shard outside the folder.</exception>
    public static CheckpointIndex Read(string path)
    {
        if (JsonFile.ReadObject(path)["weight_map"] is not JsonObject { Count: > 0 } map)
        {
            throw new InvalidDataException($"{path} has no weight_map that says which shard holds which tensor; download it again");
        }

        var shardOf = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (tensor, node) in map)
        {
            shardOf.Add(tensor, ShardName(path, tensor, node));
        }

        return new CheckpointIndex(path, shardOf);
    }

    private static string ShardName(string path, string tensor, JsonNode? node)
    {
        if (node?.GetValueKind() != JsonValueKind.String)
        {
            throw new InvalidDataException(
                $"{path}: the shard of the tensor {Wording.Quote(tensor)} is not a file name; download it again");
        }

        var name = node.GetValue<string>();

        // A name with a path in it could reach any file on the machine.
        return name.Length > 0 && name is not "." and not ".." && name.AsSpan().IndexOfAny("/\\:\0") < 0
            ? name
            : throw new InvalidDataException($"{path}: the shard {Wording.Quote(name)} of the tensor {Wording.Quote(tensor)} is not a "
                + "plain file name; download the index again");
    }
}

/// <summary>File names of a checkpoint, as written by transformers.</summary>
internal static class CheckpointNames
{
    public const string Single = "model.safetensors";
    public const string Index = "model.safetensors.index.json";

    /// <summary>Shard <paramref name="number"/> (from 1) of <paramref name="count"/>.</summary>
    public static string Shard(int number, int count) =>
        string.Create(CultureInfo.InvariantCulture, $"model-{number:00000}-of-{count:00000}.safetensors");
}
