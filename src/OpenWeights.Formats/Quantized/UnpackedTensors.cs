using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>The tensors of a quantised checkpoint as if it were stored in full: quantised weights are read as float32.</summary>
internal sealed class UnpackedTensors : ITensorSource
{
    // A tensor is read in parts; its matrix is unpacked for the first and kept for the others.
    private const int Kept = 2;

    private readonly ITensorSource stored;
    private readonly Dictionary<string, (TensorEntry Entry, PackedTensor? Packed)> byName = new(StringComparer.Ordinal);
    private readonly List<TensorEntry> tensors = [];
    private readonly LinkedList<(string Name, int Index, Lazy<PackedMatrix> Matrix)> recent = new();
    private readonly Lock reading = new();

    /// <summary>Puts the weights together.</summary>
    /// <param name="stored">The tensors as the files have them.</param>
    /// <param name="format">How weights are packed.</param>
    /// <exception cref="InvalidDataException">No weight is packed, or parts of a weight are missing, or of the wrong type or shape.</exception>
    public UnpackedTensors(ITensorSource stored, IQuantizedFormat format)
    {
        this.stored = stored;
        var parts = new StoredParts(stored);
        var packed = format.Find(parts).ToDictionary(static tensor => tensor.Parts[0].Name, StringComparer.Ordinal);
        if (packed.Count == 0)
        {
            throw new InvalidDataException(
                $"{stored.Location}: config.json says that the weights are quantised ({format.Description}), but no weight in the files is packed so: they are stored in full, or another method packed them. Download the checkpoint again, or take the base that is not quantised, with `quantization: {{ type: nf4 }}` to quantise it here.");
        }

        foreach (var entry in stored.Tensors)
        {
            if (packed.TryGetValue(entry.Name, out var tensor))
            {
                var elements = TensorSize.Elements(tensor.Shape) ?? throw new InvalidDataException($"{entry.FilePath}: {tensor.Name} has more elements than can be counted in 64 bits; {Wording.DamagedAdvice}");
                Add(new TensorEntry(tensor.Name, DType.F32, tensor.Shape, checked(elements * sizeof(float)), entry.FilePath, entry.FileOffset) { IsQuantized = true }, tensor);
            }
            else if (!parts.IsTaken(entry.Name))
            {
                Add(entry, null);
            }
        }
    }

    /// <inheritdoc/>
    public string Location => stored.Location;

    /// <inheritdoc/>
    public IReadOnlyList<TensorEntry> Tensors => tensors;

    /// <summary>The quantised weights.</summary>
    public IEnumerable<PackedTensor> Packed => byName.Values.Select(static held => held.Packed).OfType<PackedTensor>();

    /// <summary>A quantised weight by its name; null for a tensor that is stored in full.</summary>
    public PackedTensor? Find(string name) => byName.GetValueOrDefault(name).Packed;

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
        var (entry, packed) = byName[this.GetTensor(name).Name];
        if (packed is null)
        {
            stored.CopyTo(name, offset, destination);
            return;
        }

        PositionedRead.RequirePart(entry.ByteLength, offset, destination.Length, name);
        if (offset % sizeof(float) != 0 || destination.Length % sizeof(float) != 0)
        {
            throw new ArgumentOutOfRangeException(nameof(offset), $"a part of the quantised {Wording.Quote(name)} must consist of whole numbers");
        }

        var values = MemoryMarshal.Cast<byte, float>(destination);
        var (first, each) = (offset / sizeof(float), packed.OutFeatures * packed.InFeatures);
        while (values.Length > 0)
        {
            var within = first % each;
            var count = (int)Math.Min(values.Length, each - within);
            var matrix = Matrix(packed, (int)(first / each));
            if (packed.IsTransposed)
            {
                Transposed(matrix, within, values[..count]);
            }
            else
            {
                Plain(matrix, within, values[..count]);
            }

            first += count;
            values = values[count..];
        }
    }

    // Elements of a matrix in its own order.
    private static void Plain(PackedMatrix matrix, long first, Span<float> values)
    {
        var columns = matrix.Columns;
        for (var row = first / columns; values.Length > 0; row++)
        {
            var within = (int)(first - (row * columns));
            if (within == 0 && values.Length >= columns)
            {
                var rows = Math.Min(values.Length / columns, matrix.Rows - row);
                matrix.Read(row, rows, values[..(int)(rows * columns)]);
                first += rows * columns;
                values = values[(int)(rows * columns)..];
                row += rows - 1;
                continue;
            }

            var line = new float[columns];
            matrix.Read(row, 1, line);
            var count = (int)Math.Min(columns - within, values.Length);
            line.AsSpan(within, count).CopyTo(values);
            first += count;
            values = values[count..];
        }
    }

    // Elements in the order of the transposed matrix, [in, out].
    private static void Transposed(PackedMatrix matrix, long first, Span<float> values)
    {
        var line = new float[matrix.Columns];
        for (long output = 0; output < matrix.Rows; output++)
        {
            // The first input whose number of this output is not before the part.
            var input = first <= output ? 0 : (first - output + matrix.Rows - 1) / matrix.Rows;
            if ((input * matrix.Rows) + output >= first + values.Length)
            {
                continue;
            }

            matrix.Read(output, 1, line);
            for (; input < matrix.Columns && (input * matrix.Rows) + output < first + values.Length; input++)
            {
                values[(int)((input * matrix.Rows) + output - first)] = line[input];
            }
        }
    }

    private void Add(TensorEntry entry, PackedTensor? packed)
    {
        if (!byName.TryAdd(entry.Name, (entry, packed)))
        {
            throw new InvalidDataException($"{entry.FilePath}: {Wording.Quote(entry.Name)} is there in full and quantised; download the files again, all from one revision");
        }

        tensors.Add(entry);
    }

    private PackedMatrix Matrix(PackedTensor packed, int index)
    {
        Lazy<PackedMatrix> found;
        lock (reading)
        {
            var held = recent.FirstOrDefault(held => held.Index == index && held.Name == packed.Name);
            if (held.Matrix is null)
            {
                held = (packed.Name, index, new Lazy<PackedMatrix>(() => packed.Read(index)));
                recent.AddFirst(held);
                if (recent.Count > Kept)
                {
                    recent.RemoveLast();
                }
            }

            found = held.Matrix;
        }

        return found.Value;
    }
}
