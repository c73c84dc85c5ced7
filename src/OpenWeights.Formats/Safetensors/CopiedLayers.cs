using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace OpenWeights.Formats.Safetensors;

/// <summary>Tensors of which those of numbered layers are there again under other numbers.</summary>
internal sealed class CopiedLayers : IWeightFile
{
    private readonly ITensorSource source;
    private readonly Dictionary<string, (TensorEntry Own, TensorEntry Copy)> byName = new(StringComparer.Ordinal);

    /// <summary>Lists the copies.</summary>
    /// <param name="source">The tensors; the caller keeps ownership.</param>
    /// <param name="start">What the names of the layers' tensors begin with before the number, such as "model.layers.".</param>
    /// <param name="order">For each layer the one that it is a copy of.</param>
    public CopiedLayers(ITensorSource source, string start, IReadOnlyList<int> order)
    {
        this.source = source;
        var copies = order.Select(static (own, number) => (own, number)).ToLookup(static copy => copy.own, static copy => copy.number);
        var tensors = new List<TensorEntry>();
        foreach (var entry in source.Tensors)
        {
            var length = entry.Name.StartsWith(start, StringComparison.Ordinal) ? entry.Name.AsSpan(start.Length).IndexOf('.') : -1;
            if (length <= 0 || !int.TryParse(entry.Name.AsSpan(start.Length, length), NumberStyles.None, CultureInfo.InvariantCulture, out var layer))
            {
                tensors.Add(Add(entry, entry.Name));
                continue;
            }

            tensors.AddRange(copies[layer].Select(number => Add(entry, string.Create(CultureInfo.InvariantCulture, $"{start}{number}{entry.Name[(start.Length + length)..]}"))));
        }

        Tensors = tensors;
    }

    public string Location => source.Location;

    public IReadOnlyList<TensorEntry> Tensors { get; }

    public bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry)
    {
        var found = byName.TryGetValue(name, out var both);
        entry = both.Copy;
        return found;
    }

    public void CopyTo(string name, long offset, Span<byte> destination) =>
        source.CopyTo(byName.TryGetValue(name, out var both) ? both.Own.Name : name, offset, destination);

    public void Dispose()
    {
    }

    private TensorEntry Add(TensorEntry own, string name)
    {
        var copy = new TensorEntry(name, own.DType, own.Shape, own.ByteLength, own.FilePath, own.FileOffset) { IsQuantized = own.IsQuantized };
        byName.Add(name, (own, copy));
        return copy;
    }
}
