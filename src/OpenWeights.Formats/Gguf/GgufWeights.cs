using System.Diagnostics.CodeAnalysis;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Gguf;

/// <summary>
/// The weights of a GGUF file under the names of a Hugging Face checkpoint of its family, with rows in the same order and norms
/// without the added 1. Half-precision tensors keep their type; quantized ones are read as float32.
/// </summary>
public sealed class GgufWeights : IWeightFile
{
    private readonly GgufFile file;
    private readonly GgufFamily family;
    private readonly ConfigJson config;
    private readonly Dictionary<string, GgufStored> byName = new(StringComparer.Ordinal);
    private readonly Dictionary<string, GgufPieces> composed = new(StringComparer.Ordinal);

    private GgufWeights(GgufFile file)
    {
        this.file = file;
        family = GgufFamilies.Of(file);
        config = new ConfigJson(family.ReadSettings(file), file.Location);
        var parts = new Dictionary<string, List<GgufPart>>(StringComparer.Ordinal);
        var (predicts, layers) = (family.PredictionLayers(file) > 0, family.Layers(config));
        foreach (var tensor in file.Tensors.Where(static t => !RopeScaling.IsTable(t.Name)))
        {
            if (predicts && GgufNames.TryLayer(tensor.Name, GgufNames.BlockPrefix, out var layer, out _) && layer >= layers)
            {
                continue;
            }

            if (family.PieceOf(tensor.Name) is { } piece)
            {
                Compose(piece.Split, piece.Name);
                continue;
            }

            if (!family.TryToHuggingFace(tensor.Name, out var name))
            {
                throw new InvalidDataException($"{file.Location}: the architecture {family.Architecture} has no known tensor {Wording.Quote(tensor.Name)}.");
            }

            foreach (var (own, part) in Parts(tensor, name))
            {
                (parts.TryGetValue(own, out var list) ? list : parts[own] = []).Add(part);
            }
        }

        foreach (var (name, list) in parts)
        {
            byName.Add(name, GgufStored.Of(name, list, file));
        }

        foreach (var tensor in family.SettingTensors(file.Metadata))
        {
            byName.Add(tensor.Name, GgufStored.Of(tensor, file));
        }

        Tensors = [.. byName.Values.Select(static found => found.Entry), .. composed.Values.Select(static found => found.Entry)];
    }

    /// <inheritdoc/>
    public string Location => file.Location;

    /// <inheritdoc/>
    public IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>Opens a file.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The weights; dispose them.</returns>
    /// <exception cref="InvalidDataException">It is no GGUF file of a family that is known here.</exception>
    public static GgufWeights Open(string path)
    {
        var file = GgufFile.Open(path);
        try
        {
            return new GgufWeights(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry)
    {
        entry = composed.GetValueOrDefault(name)?.Entry ?? byName.GetValueOrDefault(name)?.Entry;
        return entry is not null;
    }

    /// <inheritdoc/>
    public void CopyTo(string name, long offset, Span<byte> destination)
    {
        var entry = this.GetTensor(name);
        PositionedRead.RequirePart(entry.ByteLength, offset, destination.Length, name);
        if (composed.TryGetValue(name, out var pieces))
        {
            pieces.CopyTo(offset, destination);
            return;
        }

        byName[name].CopyTo(offset, destination);
    }

    /// <summary>A tensor's blocks as the file has them; null for one that is stored in full, or is not a matrix of the checkpoint as it is.</summary>
    /// <param name="name">The tensor's name in the checkpoint.</param>
    public GgufMatrix? MatrixOf(string name) => composed.ContainsKey(name) ? null : byName.GetValueOrDefault(name)?.Matrix();

    /// <summary>Closes the file.</summary>
    public void Dispose() => file.Dispose();

    private void Compose(GgufSplit split, string name)
    {
        if (!composed.ContainsKey(name))
        {
            var (_, names) = family.SplitOf(name)!.Value;
            composed.Add(name, new GgufPieces(file, split, name, [.. names.Select(file.GetTensor)]));
        }
    }

    // A tensor of stacked matrices corresponds to one checkpoint tensor per matrix.
    private IEnumerable<(string Name, GgufPart Part)> Parts(GgufTensorInfo tensor, string name)
    {
        var form = family.FormOf(tensor.Name, config);
        if (!name.Contains('*', StringComparison.Ordinal))
        {
            return [(name, new GgufPart(tensor, form, 0, form.Shape.ToCheckpoint(tensor.Shape)))];
        }

        return tensor.Shape.Count == 3
            ? Enumerable.Range(0, (int)tensor.Shape[0]).Select(i => (GgufPlace.OfNumber(name, i), new GgufPart(tensor, form, i * tensor.Shape[1], [.. tensor.Shape.Skip(1)])))
            : throw new InvalidDataException($"{file.Location}: the tensor {tensor} is no stack of matrices; {Wording.DamagedAdvice}");
    }
}
