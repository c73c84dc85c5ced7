using System.Diagnostics.CodeAnalysis;
using System.Text.RegularExpressions;
using OpenWeights.Formats.Families;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// A weight file whose mixtures lie as transformers 5's modules have them (<c>save_pretrained(save_original_format=False)</c>), seen as
/// the usual checkpoints: <c>mlp.experts.gate_up_proj</c> [experts, 2 x inner, hidden] (gate above up) and <c>.down_proj</c>
/// [experts, hidden, inner] become one tensor for each matrix of each expert. Each is a piece of the file's bytes.
/// </summary>
internal sealed partial class FusedExperts : IWeightFile
{
    private readonly IWeightFile file;
    private readonly Dictionary<string, Piece> pieces = new(StringComparer.Ordinal);

    private FusedExperts(IWeightFile file, IEnumerable<Piece> pieces)
    {
        this.file = file;
        foreach (var piece in pieces)
        {
            this.pieces.Add(piece.Entry.Name, piece);
        }

        Tensors = [.. this.pieces.Values.Select(piece => piece.Entry)];
    }

    /// <summary>The view of a file; the file itself if it has no such tensors.</summary>
    internal static IWeightFile View(IWeightFile file, ExpertFacts names)
    {
        var pieces = file.Tensors.SelectMany(entry => Pieces(entry, names)).ToList();
        return pieces.TrueForAll(piece => piece.Entry.Name == piece.Source) ? file : new FusedExperts(file, pieces);
    }

    public string Location => file.Location;

    public IReadOnlyList<TensorEntry> Tensors { get; }

    public bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry)
    {
        entry = pieces.GetValueOrDefault(name)?.Entry;
        return entry is not null;
    }

    public void CopyTo(string name, long offset, Span<byte> destination)
    {
        var entry = this.GetTensor(name);
        PositionedRead.RequirePart(entry.ByteLength, offset, destination.Length, name);

        file.CopyTo(pieces[name].Source, pieces[name].Offset + offset, destination);
    }

    public void Dispose() => file.Dispose();

    private static IEnumerable<Piece> Pieces(TensorEntry entry, ExpertFacts names)
    {
        var module = entry.Name.Replace(".mlp.", $".{names.Module}.", StringComparison.Ordinal);
        var match = FusedName().Match(module);
        if (!match.Success || entry.Shape is not [var experts, var rows, var columns] || experts == 0)
        {
            // The router's name follows its module's.
            return [new Piece(entry.Name, 0, Renamed(entry, module, entry.Shape, 0, entry.ByteLength))];
        }

        var (prefix, each) = (match.Groups[1].Value, entry.ByteLength / experts);
        TensorEntry Part(long expert, string matrix, long count, long offset) =>
            Renamed(entry, $"{prefix}.{expert}.{matrix}.weight", [count, columns], offset, each * count / rows);
        if (match.Groups[2].Value == "down_proj")
        {
            return Enumerable.Range(0, (int)experts).Select(i => new Piece(entry.Name, i * each, Part(i, names.Down, rows, i * each)));
        }

        if (rows % 2 != 0)
        {
            throw new InvalidDataException($"{entry.FilePath}: {entry}: gate and up lie one above the other in it, so its second size must be even; download the file again");
        }

        return Enumerable.Range(0, (int)experts).SelectMany(i => new Piece[]
        {
            new(entry.Name, i * each, Part(i, names.Gate, rows / 2, i * each)),
            new(entry.Name, (i * each) + (each / 2), Part(i, names.Up, rows / 2, (i * each) + (each / 2))),
        });
    }

    private static TensorEntry Renamed(TensorEntry whole, string name, IReadOnlyList<long> shape, long offset, long byteLength) =>
        name == whole.Name ? whole : new TensorEntry(name, whole.DType, shape, byteLength, whole.FilePath, whole.FileOffset + offset);

    [GeneratedRegex(@"^(.*\.experts)\.(gate_up_proj|down_proj)$")]
    private static partial Regex FusedName();

    private sealed record Piece(string Source, long Offset, TensorEntry Entry);
}
