using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>The experts of GPT-OSS in MXFP4: [experts, out, in / 32, 16] bytes, and the scales' exponents, [experts, out, in / 32].</summary>
internal sealed class Mxfp4Format : IQuantizedFormat
{
    private const int Block = 32;
    private const string CodesEnd = "_blocks";
    private const string ScalesEnd = "_scales";

    public string Description => "mxfp4: 4-bit floats in blocks of 32 (experts)";

    public double BitsPerWeight => 4.25;

    public IEnumerable<PackedTensor> Find(StoredParts files)
    {
        var found = new List<PackedTensor>();
        foreach (var codes in files.Tensors.Where(static entry => entry.Name.EndsWith(CodesEnd, StringComparison.Ordinal)).ToList())
        {
            var name = codes.Name[..^CodesEnd.Length];
            _ = files.Take(codes.Name, name);
            var scales = files.Take(name + ScalesEnd, name);
            StoredParts.RequireType(codes, DType.U8);
            StoredParts.RequireType(scales, DType.U8);
            StoredParts.RequireDimensions(codes, 4);
            StoredParts.RequireShape(codes, "MXFP4", [.. codes.Shape.Take(3), Block / 2]);
            StoredParts.RequireShape(scales, $"{codes.Name} {Wording.Shape(codes.Shape)}", [.. codes.Shape.Take(3)]);
            var (count, outputs, inputs) = (codes.Shape[0], codes.Shape[1], codes.Shape[2] * Block);
            found.Add(new PackedTensor(name, [count, inputs, outputs], [codes, scales])
            {
                IsTransposed = true,
                Read = i => Scaled.Fp4Matrix(outputs, inputs, files.Bytes(codes, i), Block, files.Bytes(scales, i), SmallFloats.E8M0),
            });
        }

        files.RefuseOrphans(ScalesEnd, CodesEnd);
        return found;
    }
}
