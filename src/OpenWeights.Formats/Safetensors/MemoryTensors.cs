using System.Diagnostics.CodeAnalysis;

namespace OpenWeights.Formats.Safetensors;

/// <summary>Small tensors in memory, such as those of an adapter that were read and put together in another way.</summary>
/// <param name="location">Where they come from, for messages.</param>
public sealed class MemoryTensors(string location) : ITensorSource
{
    private readonly List<TensorEntry> tensors = [];
    private readonly Dictionary<string, (TensorEntry Entry, byte[] Bytes)> byName = new(StringComparer.Ordinal);

    /// <inheritdoc/>
    public string Location => location;

    /// <inheritdoc/>
    public IReadOnlyList<TensorEntry> Tensors => tensors;

    /// <summary>Adds a tensor.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="dtype">Its element type.</param>
    /// <param name="shape">Its dimensions.</param>
    /// <param name="bytes">Its bytes, in C order.</param>
    public void Add(string name, DType dtype, IReadOnlyList<long> shape, byte[] bytes)
    {
        ArgumentNullException.ThrowIfNull(bytes);
        var entry = new TensorEntry(name, dtype, shape, bytes.Length, location, 0);
        byName.Add(name, (entry, bytes));
        tensors.Add(entry);
    }

    /// <inheritdoc/>
    public bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry)
    {
        var found = byName.TryGetValue(name, out var held);
        entry = held.Entry;
        return found;
    }

    /// <inheritdoc/>
    public void CopyTo(string name, long offset, Span<byte> destination)
    {
        var (entry, bytes) = (this.GetTensor(name), byName[name].Bytes);
        PositionedRead.RequirePart(entry.ByteLength, offset, destination.Length, name);
        bytes.AsSpan((int)offset, destination.Length).CopyTo(destination);
    }
}
