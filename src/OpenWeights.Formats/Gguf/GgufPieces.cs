using OpenWeights.Formats.Gguf.Blocks;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Gguf;

/// <summary>A checkpoint's tensor that a GGUF file has in pieces, put together slab by slab; the last slab is kept for the next part of it.</summary>
internal sealed class GgufPieces
{
    private readonly GgufFile file;
    private readonly IReadOnlyList<GgufTensorInfo> tensors;
    private readonly IReadOnlyList<GgufView> views;
    private readonly long slabs;
    private readonly Lock turn = new();
    private byte[] bytes = [];
    private long kept = -1;

    public GgufPieces(GgufFile file, GgufSplit split, string name, IReadOnlyList<GgufTensorInfo> tensors)
    {
        (this.file, this.tensors) = (file, tensors);
        IReadOnlyList<IReadOnlyList<long>> shapes = [.. tensors.Select(static t => t.Shape)];
        var rank = shapes[0].Count;
        var go = shapes.All(shape => shape.Count == rank) && rank >= (split.IsStacked ? 2 : 1) && rank <= 3 && (!split.IsStacked || shapes.All(shape => shape[0] == shapes[0][0]));
        (views, slabs) = go ? (split.Views(shapes), split.Slabs(shapes)) : ([], 0);
        var whole = go ? split.Whole(shapes) : [];
        if (!go || whole.Aggregate(1L, static (product, size) => product * size) != slabs * views.Sum(static v => v.Count))
        {
            throw new InvalidDataException($"{file.Location}: the tensors {string.Join(", ", tensors)} do not go together; {Wording.DamagedAdvice}");
        }

        var type = tensors.Select(static t => ReadAs(t.Type)).Distinct().ToList() is [var only] ? only : DType.F32;
        Entry = new TensorEntry(name, type, whole, checked(whole.Aggregate(1L, static (product, size) => product * size) * type.BitSize() / 8), file.Location, tensors[0].FileOffset)
        {
            IsQuantized = tensors.Any(static t => IsQuantized(t.Type)),
        };
    }

    /// <summary>The tensor.</summary>
    public TensorEntry Entry { get; }

    /// <summary>The type that values of a type of GGUF are read as.</summary>
    public static DType ReadAs(GgufType type) => type switch
    {
        GgufType.F16 => DType.F16,
        GgufType.BF16 => DType.BF16,
        _ => DType.F32,
    };

    /// <summary>Whether values of a type were rounded to few bits.</summary>
    public static bool IsQuantized(GgufType type) => type is not (GgufType.F32 or GgufType.F16 or GgufType.BF16);

    /// <summary>Copies a part of the tensor.</summary>
    /// <param name="offset">The first byte.</param>
    /// <param name="destination">Where to put it; it is filled.</param>
    public void CopyTo(long offset, Span<byte> destination)
    {
        var size = Entry.ByteLength / slabs;
        lock (turn)
        {
            while (destination.Length > 0)
            {
                var (slab, within) = Math.DivRem(offset, size);
                Keep(slab, checked((int)size));
                var count = (int)Math.Min(size - within, destination.Length);
                bytes.AsSpan((int)within, count).CopyTo(destination);
                offset += count;
                destination = destination[count..];
            }
        }
    }

    private void Keep(long slab, int size)
    {
        if (slab == kept)
        {
            return;
        }

        var values = new float[size * 8 / Entry.DType.BitSize()];
        foreach (var (tensor, view) in tensors.Zip(views))
        {
            var part = new float[view.Count];
            file.ReadRows(tensor, slab * (view.Count / tensor.RowLength), part);
            view.Scatter(part, values);
        }

        bytes = new byte[size];
        BlockEncoder.Encode(Entry.DType switch { DType.F16 => GgufType.F16, DType.BF16 => GgufType.BF16, _ => GgufType.F32 }, values, bytes);
        kept = slab;
    }
}
