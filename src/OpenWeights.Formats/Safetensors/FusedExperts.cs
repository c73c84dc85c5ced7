using System.Text.RegularExpressions;
using OpenWeights.Formats.Families;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// Mixtures that lie as transformers 5's modules have them (<c>save_pretrained(save_original_format=False)</c>), seen as the usual
/// checkpoints: <c>mlp.experts.gate_up_proj</c> [experts, 2 x inner, hidden] (gate above up) and <c>.down_proj</c>
/// [experts, hidden, inner] become one tensor for each matrix of each expert. Each is a run of the stored tensor's elements.
/// </summary>
internal static partial class FusedExperts
{
    /// <summary>The parts of a stored tensor, with the first element of each; the tensor itself if it is not such a one.</summary>
    internal static IEnumerable<(TensorEntry Entry, long First)> Parts(TensorEntry entry, ExpertFacts names)
    {
        var module = entry.Name.Replace(".mlp.", $".{names.Module}.", StringComparison.Ordinal);
        var match = FusedName().Match(module);
        if (!match.Success || entry.Shape is not [var experts, var rows, var columns] || experts == 0)
        {
            // The router's name follows its module's.
            return [(Renamed(entry, module, entry.Shape, 0, entry.ByteLength), 0)];
        }

        var (prefix, each, bytes) = (match.Groups[1].Value, rows * columns, entry.ByteLength / experts);
        (TensorEntry, long) Part(long expert, string matrix, long first, long count) =>
            (Renamed(entry, $"{prefix}.{expert}.{matrix}.weight", [count, columns], (bytes * expert) + (bytes * first / rows), bytes * count / rows), (each * expert) + (columns * first));
        if (match.Groups[2].Value == "down_proj")
        {
            return Enumerable.Range(0, (int)experts).Select(i => Part(i, names.Down, 0, rows));
        }

        return rows % 2 == 0
            ? Enumerable.Range(0, (int)experts).SelectMany(i => new[] { Part(i, names.Gate, 0, rows / 2), Part(i, names.Up, rows / 2, rows / 2) })
            : throw new InvalidDataException($"{entry.FilePath}: {entry}: gate and up lie one above the other in it, so its second size must be even; download the file again");
    }

    private static TensorEntry Renamed(TensorEntry whole, string name, IReadOnlyList<long> shape, long offset, long byteLength) =>
        name == whole.Name ? whole : new TensorEntry(name, whole.DType, shape, byteLength, whole.FilePath, whole.FileOffset + offset);

    [GeneratedRegex(@"^(.*\.experts)\.(gate_up_proj|down_proj)$")]
    private static partial Regex FusedName();
}
