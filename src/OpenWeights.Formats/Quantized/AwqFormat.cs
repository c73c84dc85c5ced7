using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>AWQ (Lin et al., 2023) as AutoAWQ's gemm version stores it: 4-bit integers, eight outputs to a word, with a scale and a zero for each output and group of inputs.</summary>
internal sealed class AwqFormat : IQuantizedFormat
{
    private const string CodesEnd = ".qweight";
    private readonly int? group;
    private readonly bool hasZeros;

    public AwqFormat(QuantizationConfig config)
    {
        var (version, bits) = ((config.Text("version") ?? "gemm").ToLowerInvariant(), config.Number("bits") ?? config.Number("w_bit") ?? 4);
        if (version != "gemm" || bits != 4)
        {
            throw config.Unsupported(bits != 4 ? $"awq with {bits} bits" : $"awq of version {version}");
        }

        group = config.Number("group_size") ?? config.Number("q_group_size");
        hasZeros = config.Switch("zero_point") ?? true;
        Description = $"awq: 4 bits, {(group > 0 ? $"groups of {group}" : "a scale for each output")}{(hasZeros ? ", with zeros" : "")}";
        BitsPerWeight = 4 + (group > 0 ? 20.0 / group.Value : 0.01);
    }

    public string Description { get; }

    public double BitsPerWeight { get; }

    public IEnumerable<PackedTensor> Find(StoredParts files)
    {
        var found = files.Tensors.Where(static entry => entry.Name.EndsWith(CodesEnd, StringComparison.Ordinal)).ToList()
            .ConvertAll(codes => Tensor(files, codes, codes.Name[..^CodesEnd.Length]));
        files.RefuseOrphans(".qzeros", CodesEnd);
        return found;
    }

    private PackedTensor Tensor(StoredParts files, TensorEntry codes, string module)
    {
        var name = $"{module}.weight";
        _ = files.Take(codes.Name, name);
        var scales = files.Take($"{module}.scales", name);
        var zeros = hasZeros ? files.Take($"{module}.qzeros", name) : files.TakeIfThere($"{module}.qzeros");
        StoredParts.RequireType(codes, DType.I32, DType.U32);
        StoredParts.RequireType(scales, DType.F16, DType.BF16, DType.F32);
        StoredParts.RequireDimensions(codes, 2);
        StoredParts.RequireDimensions(scales, 2);
        var (inputs, outputs, groups) = (codes.Shape[0], codes.Shape[1] * 8, scales.Shape[0]);
        var size = group is > 0 and { } given ? given : (inputs + groups - 1) / groups;
        StoredParts.RequireShape(scales, $"{codes.Name} {Wording.Shape(codes.Shape)} in groups of {size}", [(inputs + size - 1) / size, outputs]);
        if (zeros is not null)
        {
            StoredParts.RequireType(zeros, DType.I32, DType.U32);
            StoredParts.RequireShape(zeros, $"{scales.Name} {Wording.Shape(scales.Shape)}", [groups, outputs / 8]);
        }

        return new PackedTensor(name, [outputs, inputs], zeros is null ? [codes, scales] : [codes, scales, zeros])
        {
            Read = _ => new PackedMatrix
            {
                OutFeatures = outputs,
                InFeatures = inputs,
                Rows = outputs,
                Columns = inputs,
                Bits = 4,
                RowBytes = (inputs + 1) / 2,
                Codes = CodeLayout.OfAwq(files.Bytes(codes), outputs),

                // Without zeros, the middle of the codes is zero.
                Levels = [.. Enumerable.Range(0, 16).Select(code => (float)(zeros is null ? code - 8 : code))],
                Zeros = zeros is null ? null : CodeLayout.ZerosOfAwq(files.Bytes(zeros), outputs),
                Scales = new PackedScales
                {
                    Rows = outputs,
                    Columns = groups,
                    BlockRows = 1,
                    BlockColumns = Math.Min(size, inputs),
                    Type = scales.DType,
                    Bytes = CodeLayout.Transposed(files.Bytes(scales), groups, outputs),
                },
            },
        };
    }
}
