using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>The stored tensors of a checkpoint while its quantised weights are put together: which are taken, and what they must be.</summary>
/// <param name="files">The tensors as the files have them.</param>
internal sealed class StoredParts(ITensorSource files)
{
    private readonly HashSet<string> taken = new(StringComparer.Ordinal);

    /// <summary>All stored tensors.</summary>
    public IReadOnlyList<TensorEntry> Tensors => files.Tensors;

    /// <summary>Whether a tensor is a part of a quantised weight, or belongs to one.</summary>
    public bool IsTaken(string name) => taken.Contains(name);

    /// <summary>Takes a tensor that there must be.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="weight">The weight that it is a part of.</param>
    /// <exception cref="InvalidDataException">It is not there.</exception>
    public TensorEntry Take(string name, string weight) => TakeIfThere(name)
        ?? throw new InvalidDataException($"{files.Location}: {name} is missing, which the quantised weight {weight} needs; download the files again, all from one revision");

    /// <summary>Takes a tensor if it is there.</summary>
    /// <param name="name">Its name.</param>
    public TensorEntry? TakeIfThere(string name)
    {
        if (!files.TryGetTensor(name, out var entry))
        {
            return null;
        }

        _ = taken.Add(name);
        return entry;
    }

    /// <summary>Takes tensors that mean nothing for the weights, such as scales of activations, if they are there.</summary>
    /// <param name="module">Start of their names.</param>
    /// <param name="ends">Ends of their names.</param>
    public void Ignore(string module, params ReadOnlySpan<string> ends)
    {
        foreach (var end in ends)
        {
            _ = TakeIfThere(module + end);
        }
    }

    /// <summary>Refuses parts whose codes are missing.</summary>
    /// <param name="end">End of the names of the parts.</param>
    /// <param name="codes">End of the names of the codes.</param>
    /// <exception cref="InvalidDataException">There is one.</exception>
    public void RefuseOrphans(string end, string codes)
    {
        if (files.Tensors.FirstOrDefault(entry => entry.Name.EndsWith(end, StringComparison.Ordinal) && !taken.Contains(entry.Name)) is { } orphan)
        {
            throw new InvalidDataException($"{orphan.FilePath}: {orphan.Name} belongs to a quantised weight whose {orphan.Name[..^end.Length]}{codes} is missing; download the files again, all from one revision");
        }
    }

    /// <summary>Reads a tensor's bytes.</summary>
    /// <exception cref="IOException">The disk failed.</exception>
    public byte[] Bytes(TensorEntry entry) => files.ReadBytes(entry.Name);

    /// <summary>Reads one of the tensors that a tensor consists of along its first dimension.</summary>
    public byte[] Bytes(TensorEntry entry, int index)
    {
        var bytes = new byte[entry.ByteLength / entry.Shape[0]];
        files.CopyTo(entry.Name, index * bytes.LongLength, bytes);
        return bytes;
    }

    /// <summary>Reads float32 numbers.</summary>
    public float[] Floats(TensorEntry entry) => [.. CodeLayout.Singles(Bytes(entry), entry.DType)];

    /// <summary>Refuses a tensor of another element type.</summary>
    /// <exception cref="InvalidDataException">It is of none of these.</exception>
    public static void RequireType(TensorEntry entry, params DType[] types)
    {
        if (!types.Contains(entry.DType))
        {
            throw new InvalidDataException($"{entry.FilePath}: {entry.Name} is of type {entry.DType}, but must be {string.Join(" or ", types)} for this kind of quantisation; download the files again, all from one revision");
        }
    }

    /// <summary>Refuses a tensor of another shape.</summary>
    /// <param name="entry">The tensor.</param>
    /// <param name="of">What gives the shape, for the message.</param>
    /// <param name="shape">The shape that it must have.</param>
    /// <exception cref="InvalidDataException">It has another one.</exception>
    public static void RequireShape(TensorEntry entry, string of, params IReadOnlyList<long> shape)
    {
        if (!entry.Shape.SequenceEqual(shape))
        {
            throw new InvalidDataException($"{entry.FilePath}: {entry.Name} is {Wording.Shape(entry.Shape)}, but {of} requires {Wording.Shape(shape)}; download the files again, all from one revision");
        }
    }

    /// <summary>Refuses a tensor that cannot be a matrix of codes, or has another number of dimensions.</summary>
    /// <exception cref="InvalidDataException">It has.</exception>
    public static void RequireDimensions(TensorEntry entry, int count)
    {
        if (entry.Shape.Count != count || entry.ElementCount == 0)
        {
            throw new InvalidDataException($"{entry.FilePath}: {entry.Name} is {Wording.Shape(entry.Shape)}, but must have {count} dimensions, none of them 0; download the files again, all from one revision");
        }
    }
}
