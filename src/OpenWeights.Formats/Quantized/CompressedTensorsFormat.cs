using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>
/// compressed-tensors (llm-compressor, vLLM): integers packed into words, integers and 8-bit floats of a byte, and the 4-bit floats NVFP4 and
/// MXFP4. What a module has is told by the names and shapes of its tensors, so modules may differ.
/// </summary>
internal sealed class CompressedTensorsFormat : IQuantizedFormat
{
    private const string PackedEnd = ".weight_packed";
    private const string ScaleEnd = ".weight_scale";
    private static readonly string[] Ignored = [".input_scale", ".input_zero_point", ".input_global_scale", ".output_scale", ".output_zero_point"];
    private static readonly string[] CacheEnds = [".k_scale", ".v_scale", ".q_scale", ".k_zero_point", ".v_zero_point"];

    private readonly QuantizationConfig config;
    private readonly IReadOnlyList<int> bits;
    private readonly bool needsZeros;
    private readonly (long Rows, long Columns)? block;

    public CompressedTensorsFormat(QuantizationConfig config)
    {
        this.config = config;
        var format = config.Text("format") ?? "";
        JsonObject[] groups = [.. (config.Settings["config_groups"] as JsonObject ?? []).Select(static pair => (pair.Value as JsonObject)?["weights"] as JsonObject).OfType<JsonObject>()];
        if (format.Contains("marlin", StringComparison.Ordinal) || (config.Settings["sparsity_config"] as JsonObject)?["format"]?.ToString() is { Length: > 0 } and not "dense")
        {
            throw config.Unsupported("sparse or Marlin's layout of compressed-tensors");
        }

        bits = [.. groups.Select(weights => Number(weights, "num_bits") ?? 8).Distinct()];
        needsZeros = groups.Length > 0 && Array.TrueForAll(groups, static weights => weights["symmetric"] is JsonValue value && value.TryGetValue<bool>(out var isSymmetric) && !isSymmetric);
        block = groups.Select(static weights => weights["block_structure"] as JsonArray).FirstOrDefault(static structure => structure is { Count: 2 }) is [JsonValue high, JsonValue wide] && high.TryGetValue<int>(out var rows) && wide.TryGetValue<int>(out var columns) ? (rows, columns) : null;
        Description = $"compressed-tensors: {string.Join("; ", groups.Select(Describe).Distinct())} ({format})";
        BitsPerWeight = bits.DefaultIfEmpty(8).Max() + groups.Select(weights => Number(weights, "group_size") is > 0 and { } size ? 16.0 / size : 0).DefaultIfEmpty(0).Max();
    }

    public string Description { get; }

    public double BitsPerWeight { get; }

    public IEnumerable<PackedTensor> Find(StoredParts files)
    {
        var found = new List<PackedTensor>();
        foreach (var codes in files.Tensors.ToList())
        {
            if (codes.Name.EndsWith(PackedEnd, StringComparison.Ordinal))
            {
                var module = codes.Name[..^PackedEnd.Length];
                found.Add(codes.DType == DType.U8 ? FourBitFloats(files, codes, module) : Integers(files, codes, module));
                files.Ignore(module, Ignored);
            }
            else if (codes.DType is DType.I8 or DType.F8_E4M3 or DType.F8_E5M2 && codes.Name.EndsWith(".weight", StringComparison.Ordinal))
            {
                var module = codes.Name[..^".weight".Length];
                found.Add(Bytes(files, codes, module));
                files.Ignore(module, Ignored);
            }
            else if (Array.Exists(CacheEnds, end => codes.Name.EndsWith(end, StringComparison.Ordinal)))
            {
                _ = files.TakeIfThere(codes.Name);
            }
        }

        files.RefuseOrphans(ScaleEnd, ".weight or .weight_packed");
        return found;
    }

    private int? Number(JsonObject weights, string key) => weights[key] switch
    {
        null => null,
        JsonValue value when value.TryGetValue<int>(out var number) => number,
        var other => throw config.Unsupported($"{key} of {other.ToJsonString()}"),
    };

    private string Describe(JsonObject weights) =>
        $"{weights["num_bits"]}-bit {(weights["type"]?.ToString() == "float" ? "floats" : "integers")}, {(Number(weights, "group_size") is > 0 and { } size ? $"groups of {size}" : $"a scale for each {weights["strategy"]}")}{(weights["symmetric"]?.GetValueKind() == System.Text.Json.JsonValueKind.False ? ", with zeros" : "")}";

    // NVFP4 has a scale in E4M3 for 16 weights, and one for all that divides; MXFP4 a power of two for 32.
    private static PackedTensor FourBitFloats(StoredParts files, TensorEntry codes, string module)
    {
        var name = $"{module}.weight";
        _ = files.Take(codes.Name, name);
        var (scales, whole) = (files.Take(module + ScaleEnd, name), files.TakeIfThere($"{module}.weight_global_scale"));
        StoredParts.RequireDimensions(codes, 2);
        var (outputs, inputs, size) = (codes.Shape[0], codes.Shape[1] * 2, whole is null ? 32 : 16);
        StoredParts.RequireType(scales, whole is null ? [DType.U8, DType.F8_E8M0] : [DType.F8_E4M3]);
        StoredParts.RequireShape(scales, $"{codes.Name} {Wording.Shape(codes.Shape)} in blocks of {size}", [outputs, inputs / size]);
        if (whole is { ElementCount: not 1 })
        {
            StoredParts.RequireShape(whole, name, [1]);
        }

        return new PackedTensor(name, [outputs, inputs], whole is null ? [codes, scales] : [codes, scales, whole])
        {
            Read = _ => Scaled.Fp4Matrix(outputs, inputs, files.Bytes(codes), size, files.Bytes(scales), whole is null ? SmallFloats.E8M0 : Divided(SmallFloats.E4M3, files.Floats(whole)[0])),
        };
    }

    private static float[] Divided(float[] values, float by) => Array.ConvertAll(values, value => value / by);

    // A byte for each weight.
    private PackedTensor Bytes(StoredParts files, TensorEntry codes, string module)
    {
        var scales = files.Take(module + ScaleEnd, codes.Name);
        var zeros = needsZeros && codes.DType == DType.I8 ? files.Take($"{module}.weight_zero_point", codes.Name) : files.TakeIfThere($"{module}.weight_zero_point");
        _ = files.Take(codes.Name, codes.Name);
        var tensor = Scaled.Tensor(files, codes, scales, block);
        if (zeros is null || codes.DType != DType.I8)
        {
            return tensor;
        }

        StoredParts.RequireType(zeros, DType.I8);
        StoredParts.RequireShape(zeros, $"{scales.Name} {Wording.Shape(scales.Shape)}", scales.Shape);
        return tensor with { Parts = [codes, scales, zeros], Read = i => WithZeros(tensor.Read(i), files.Bytes(zeros)) };
    }

    // Codes and zeros from 0 to 255, whose differences are those of the signed ones.
    private static PackedMatrix WithZeros(PackedMatrix matrix, byte[] zeros) => new()
    {
        OutFeatures = matrix.OutFeatures,
        InFeatures = matrix.InFeatures,
        Rows = matrix.Rows,
        Columns = matrix.Columns,
        Bits = 8,
        RowBytes = matrix.RowBytes,
        Codes = matrix.Codes,
        Levels = [.. SmallFloats.SignedBytes.Select(static level => level + 128)],
        Scales = matrix.Scales,
        Zeros = Array.ConvertAll(zeros, static zero => (byte)(zero ^ 0x80)),
    };

    private PackedTensor Integers(StoredParts files, TensorEntry codes, string module)
    {
        var name = $"{module}.weight";
        _ = files.Take(codes.Name, name);
        var (scales, sizes) = (files.Take(module + ScaleEnd, name), files.Take($"{module}.weight_shape", name));
        var zeros = needsZeros ? files.Take($"{module}.weight_zero_point", name) : files.TakeIfThere($"{module}.weight_zero_point");
        var order = files.TakeIfThere($"{module}.weight_g_idx");
        StoredParts.RequireType(codes, DType.I32);
        StoredParts.RequireType(sizes, DType.I64, DType.I32);
        StoredParts.RequireType(scales, DType.F32, DType.BF16, DType.F16);
        StoredParts.RequireDimensions(codes, 2);
        StoredParts.RequireDimensions(scales, 2);
        StoredParts.RequireShape(sizes, "a matrix", [2]);
        var shape = CodeLayout.Integers(files.Bytes(sizes)) is var read && sizes.DType == DType.I64 ? [read[0], read[2]] : new long[] { read[0], read[1] };
        var own = bits.FirstOrDefault(count => count is >= 1 and <= 8 && codes.Shape[1] == (shape[1] + (32 / count) - 1) / (32 / count));
        if (own == 0 || codes.Shape[0] != shape[0])
        {
            throw new InvalidDataException($"{codes.FilePath}: {codes.Name} is {Wording.Shape(codes.Shape)}, which is no matrix {Wording.Shape(shape)} ({sizes.Name}) of {string.Join(" or ", bits)} bits ({config.Place}); download the files again, all from one revision");
        }

        var groups = scales.Shape[1];
        StoredParts.RequireShape(scales, $"{sizes.Name} {Wording.Shape(shape)}", [scales.Shape[0] == 1 ? 1 : shape[0], groups]);
        if (zeros is not null)
        {
            StoredParts.RequireShape(zeros, $"{scales.Name} {Wording.Shape(scales.Shape)}", zeros.DType == DType.I32 ? [(scales.Shape[0] + (32 / own) - 1) / (32 / own), groups] : scales.Shape);
        }

        if (order is not null)
        {
            StoredParts.RequireShape(order, $"{sizes.Name} {Wording.Shape(shape)}", [shape[1]]);
        }

        List<TensorEntry> parts = [codes, scales, sizes];
        parts.AddRange(new[] { zeros, order }.OfType<TensorEntry>());
        return new PackedTensor(name, shape, parts) { Read = _ => Matrix(files, shape, own, codes, scales, zeros, order) };
    }

    private static PackedMatrix Matrix(StoredParts files, long[] shape, int own, TensorEntry codes, TensorEntry scales, TensorEntry? zeros, TensorEntry? order)
    {
        var (outputs, inputs, middle, bytes) = (shape[0], shape[1], 1 << (own - 1), files.Bytes(codes));
        var (rows, groups) = (scales.Shape[0], scales.Shape[1]);
        var isPlain = 32 % own == 0;
        return new PackedMatrix
        {
            OutFeatures = outputs,
            InFeatures = inputs,
            Rows = outputs,
            Columns = inputs,
            Bits = own,
            RowBytes = isPlain ? codes.Shape[1] * 4 : ((inputs * own) + 7) / 8,
            Codes = isPlain ? bytes : CodeLayout.WithoutGaps(bytes, outputs, inputs, own),
            Levels = [.. Enumerable.Range(0, 1 << own).Select(code => (float)(zeros is null ? code - middle : code))],
            Zeros = zeros is null ? null : Zeros(files.Bytes(zeros), zeros, rows, groups, own, middle),
            Groups = order is null ? null : Groups(files, order, groups, (inputs + groups - 1) / groups),
            Scales = new PackedScales
            {
                Rows = rows,
                Columns = groups,
                BlockRows = (outputs + rows - 1) / rows,
                BlockColumns = (inputs + groups - 1) / groups,
                Type = scales.DType,
                Bytes = files.Bytes(scales),
            },
        };
    }

    // Words along the outputs, [out / codes of a word, groups]; or signed bytes, [out, groups].
    private static byte[] Zeros(byte[] bytes, TensorEntry entry, long rows, long groups, int own, int middle)
    {
        StoredParts.RequireType(entry, DType.I32, DType.I8);
        if (entry.DType == DType.I8)
        {
            return Array.ConvertAll(bytes, zero => (byte)((sbyte)zero + middle));
        }

        var (words, perWord, mask) = (CodeLayout.Integers(bytes), 32 / own, (1u << own) - 1);
        var zeros = new byte[rows * groups];
        for (var i = 0L; i < zeros.LongLength; i++)
        {
            var (row, group) = (i / groups, i % groups);
            zeros[i] = (byte)(((uint)words[((row / perWord) * groups) + group] >> (int)(row % perWord * own)) & mask);
        }

        return zeros;
    }

    // -1 for all means that the order did not change.
    private static int[]? Groups(StoredParts files, TensorEntry order, long groups, long size)
    {
        StoredParts.RequireType(order, DType.I32);
        var found = CodeLayout.Integers(files.Bytes(order));
        return Array.TrueForAll(found, static group => group == -1) || found.Index().All(pair => pair.Item == pair.Index / size) ? null
            : Array.FindIndex(found, group => group < 0 || group >= groups) is var wrong and >= 0
            ? throw new InvalidDataException($"{order.FilePath}: {order.Name} has the group {found[wrong]} for the input {wrong}, but there are {groups} groups; {Wording.DamagedAdvice}")
            : found;
    }
}
