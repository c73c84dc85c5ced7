using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>
/// GPTQ (Frantar et al., 2022) as AutoGPTQ and GPTQModel store it: integers of 2 to 8 bits, packed along the inputs, with a scale and a zero
/// for each output and group of inputs. Where activations decided the order, g_idx has the group of each input.
/// </summary>
internal sealed class GptqFormat : IQuantizedFormat
{
    private const string CodesEnd = ".qweight";
    private readonly QuantizationConfig config;
    private readonly int bits;
    private readonly int group;
    private readonly bool storesZeroLessOne;

    public GptqFormat(QuantizationConfig config)
    {
        this.config = config;
        bits = config.Number("bits") ?? config.Number("w_bit") ?? 4;
        group = config.Number("group_size") ?? config.Number("q_group_size") ?? -1;
        var format = config.Text("checkpoint_format") ?? (config.Switch("is_marlin_format") == true ? "marlin" : "gptq");
        if (format is not ("gptq" or "gptq_v2"))
        {
            throw config.Unsupported($"checkpoint_format {format}");
        }

        if (bits is < 2 or > 8)
        {
            throw config.Unsupported($"{bits} bits");
        }

        storesZeroLessOne = format == "gptq";
        Description = $"{format}: {bits} bits, {(group > 0 ? $"groups of {group}" : "a scale for each output")}{(config.Switch("sym") == false ? ", with zeros" : "")}{(config.Switch("desc_act") == true ? ", in the order of activations" : "")}";
        BitsPerWeight = bits + (group > 0 ? (16.0 + bits) / group : 0.01);
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
        var (scales, zeros, order) = (files.Take($"{module}.scales", name), files.Take($"{module}.qzeros", name), files.TakeIfThere($"{module}.g_idx"));
        StoredParts.RequireType(codes, DType.I32, DType.U32);
        StoredParts.RequireType(zeros, DType.I32, DType.U32);
        StoredParts.RequireType(scales, DType.F16, DType.BF16, DType.F32);
        StoredParts.RequireDimensions(codes, 2);
        StoredParts.RequireDimensions(scales, 2);

        // Single modules may have other bits than the config says (GPTQModel's dynamic); the sizes tell.
        var (outputs, words, groups) = (codes.Shape[1], codes.Shape[0], scales.Shape[0]);
        var inputs = order is { Shape: [> 0] } ? order.Shape[0] : words * 32 / bits;
        var own = (int)(words * 32 / inputs);
        if (own is < 2 or > 8 || words * 32 != inputs * own || (order is null && (own != bits)))
        {
            throw new InvalidDataException($"{codes.FilePath}: {codes.Name} is {Wording.Shape(codes.Shape)}, which is no matrix of {bits}-bit codes for {inputs} inputs ({config.Place}); download the files again, all from one revision");
        }

        StoredParts.RequireShape(scales, $"{codes.Name} {Wording.Shape(codes.Shape)}", [groups, outputs]);
        StoredParts.RequireShape(zeros, $"{own} bits and {scales.Name} {Wording.Shape(scales.Shape)}", [groups, ((outputs * own) + 31) / 32]);
        if (order is not null)
        {
            StoredParts.RequireType(order, DType.I32, DType.I64);
            StoredParts.RequireDimensions(order, 1);
        }

        var size = group > 0 && own == bits ? group : (inputs + groups - 1) / groups;
        if (order is null && (inputs + size - 1) / size != groups)
        {
            throw new InvalidDataException($"{scales.FilePath}: {scales.Name} is {Wording.Shape(scales.Shape)}, but {inputs} inputs in groups of {size} require {(inputs + size - 1) / size} rows; download the files again, all from one revision");
        }

        return new PackedTensor(name, [outputs, inputs], order is null ? [codes, scales, zeros] : [codes, scales, zeros, order])
        {
            Read = _ => Matrix(files, codes, scales, zeros, order, own, size),
        };
    }

    private PackedMatrix Matrix(StoredParts files, TensorEntry codes, TensorEntry scales, TensorEntry zeros, TensorEntry? order, int own, long size)
    {
        var (outputs, inputs, groups) = (codes.Shape[1], codes.Shape[0] * 32 / own, scales.Shape[0]);
        var groupOf = order is null ? null : Groups(files, order, groups, size);
        return new PackedMatrix
        {
            OutFeatures = outputs,
            InFeatures = inputs,
            Rows = outputs,
            Columns = inputs,
            Bits = own,
            RowBytes = codes.Shape[0] * 4,
            Codes = CodeLayout.TransposedWords(files.Bytes(codes), outputs),
            Levels = [.. Enumerable.Range(0, 1 << own).Select(static code => (float)code)],
            Zeros = Zeros(files.Bytes(zeros), groups, outputs, own),
            Groups = groupOf,
            Scales = new PackedScales
            {
                Rows = outputs,
                Columns = groups,
                BlockRows = 1,
                BlockColumns = groupOf is null ? Math.Min(size, inputs) : inputs,
                Type = scales.DType,
                Bytes = CodeLayout.Transposed(files.Bytes(scales), groups, outputs),
            },
        };
    }

    // The group of each input; null where groups are runs of inputs.
    private static int[]? Groups(StoredParts files, TensorEntry order, long groups, long size)
    {
        var bytes = files.Bytes(order);
        int[] found = order.DType == DType.I32 ? CodeLayout.Integers(bytes) : [.. CodeLayout.Integers(bytes).Where(static (_, i) => i % 2 == 0)];
        return Array.FindIndex(found, group => group < 0 || group >= groups) is var wrong and >= 0
            ? throw new InvalidDataException($"{order.FilePath}: {order.Name} has the group {found[wrong]} for the input {wrong}, but there are {groups} groups; {Wording.DamagedAdvice}")
            : found.Index().All(pair => pair.Item == pair.Index / size) ? null : found;
    }

    // [groups, out] codes to [out, groups] zeros. The first version stores a zero less 1, which wraps around.
    private byte[] Zeros(byte[] bytes, long groups, long outputs, int own)
    {
        var (zeros, row, mask) = (new byte[groups * outputs], new byte[outputs], (1 << own) - 1);
        var rowBytes = (int)(bytes.LongLength / groups);
        for (var group = 0; group < groups; group++)
        {
            CodeLayout.Unpack(bytes.AsSpan(group * rowBytes, rowBytes), own, row);
            for (var output = 0; output < row.Length; output++)
            {
                zeros[(output * groups) + group] = (byte)(storesZeroLessOne ? (row[output] + 1) & mask : row[output]);
            }
        }

        return zeros;
    }
}
