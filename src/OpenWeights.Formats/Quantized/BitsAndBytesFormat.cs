using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>
/// bitsandbytes: 4 bits (nf4 and fp4; Dettmers et al., 2023) in blocks of consecutive weights, whose scales may be quantised as well; and
/// 8 bits with a scale for each output (LLM.int8).
/// </summary>
internal sealed class BitsAndBytesFormat : IQuantizedFormat
{
    private const string State = ".quant_state.bitsandbytes__";
    private const string RowScale = ".SCB";

    public BitsAndBytesFormat(QuantizationConfig config)
    {
        var (is8, isDouble) = (config.Switch("load_in_8bit") ?? config.Switch("_load_in_8bit") ?? false, config.Switch("bnb_4bit_use_double_quant") ?? false);
        Description = is8 ? "bitsandbytes: int8" : $"bitsandbytes: {config.Text("bnb_4bit_quant_type") ?? "fp4"}{(isDouble ? ", double quantization" : "")}";
        BitsPerWeight = is8 ? 8 : isDouble ? 4.13 : 4.5;
    }

    public string Description { get; }

    public double BitsPerWeight { get; }

    public IEnumerable<PackedTensor> Find(StoredParts files)
    {
        var found = files.Tensors.Select(entry =>
            entry.Name.LastIndexOf(State, StringComparison.Ordinal) is var at and > 0 ? FourBits(files, entry, entry.Name[..at])
            : entry.Name.EndsWith(RowScale, StringComparison.Ordinal) ? EightBits(files, entry.Name[..^RowScale.Length])
            : null).OfType<PackedTensor>().ToList();
        files.RefuseOrphans(".weight.absmax", ".weight.quant_state.bitsandbytes__nf4");
        if (files.Tensors.FirstOrDefault(entry => entry.DType is DType.U8 or DType.I8 && entry.Name.EndsWith(".weight", StringComparison.Ordinal) && !files.IsTaken(entry.Name)) is { } bare)
        {
            throw new InvalidDataException($"{bare.FilePath}: the quantised weight {bare.Name} has neither {bare.Name}{State}nf4 (or fp4) nor {bare.Name[..^".weight".Length]}{RowScale}; download the files again, all from one revision");
        }

        return found;
    }

    private static PackedTensor FourBits(StoredParts files, TensorEntry stateEntry, string name)
    {
        _ = files.Take(stateEntry.Name, name);
        var state = QuantState.Read(files, stateEntry);
        var (codes, scales, map) = (files.Take(name, name), files.Take($"{name}.absmax", name), files.Take($"{name}.quant_map", name));
        var elements = state.Shape[0] * state.Shape[1];
        var blocks = (elements + state.BlockSize - 1) / state.BlockSize;

        // Codes may be stored as another type, for training in shards: only their bytes count.
        if (codes.ByteLength != (elements + 1) / 2)
        {
            throw new InvalidDataException($"{codes.FilePath}: {codes.Name} has {codes.ByteLength} bytes, but the shape {Wording.Shape(state.Shape)} of its quant_state requires {(elements + 1) / 2}; download the files again, all from one revision");
        }

        StoredParts.RequireShape(scales, $"the shape {Wording.Shape(state.Shape)} in blocks of {state.BlockSize}", [blocks]);
        StoredParts.RequireShape(map, "4 bits", [16]);
        List<TensorEntry> parts = [codes, scales, map, stateEntry];
        if (state.OuterBlock is { } outerBlock)
        {
            StoredParts.RequireType(scales, DType.U8);
            var (outer, levels) = (files.Take($"{name}.nested_absmax", name), files.Take($"{name}.nested_quant_map", name));
            StoredParts.RequireShape(outer, $"{blocks} scales in blocks of {outerBlock}", [(blocks + outerBlock - 1) / outerBlock]);
            StoredParts.RequireShape(levels, "8 bits", [256]);
            parts.AddRange([outer, levels]);
        }
        else
        {
            StoredParts.RequireType(scales, DType.F32, DType.F16, DType.BF16);
        }

        return new PackedTensor(name, state.Shape, parts) { Read = _ => Matrix(files, state, parts) };
    }

    private static PackedMatrix Matrix(StoredParts files, QuantState state, List<TensorEntry> parts)
    {
        var blocks = parts[1].ElementCount;
        var codes = files.Bytes(parts[0]);
        CodeLayout.SwapNibbles(codes);
        Array.Resize(ref codes, checked((int)(blocks * state.BlockSize / 2)));
        return new PackedMatrix
        {
            OutFeatures = state.Shape[0],
            InFeatures = state.Shape[1],
            Rows = blocks,
            Columns = state.BlockSize,
            Bits = 4,
            RowBytes = state.BlockSize / 2,
            Codes = codes,
            Levels = files.Floats(parts[2]),
            Scales = new PackedScales
            {
                Rows = blocks,
                Columns = 1,
                BlockRows = 1,
                BlockColumns = state.BlockSize,
                Type = parts[1].DType,
                Bytes = files.Bytes(parts[1]),
                Outer = state.OuterBlock is null ? null : files.Floats(parts[4]),
                OuterBlock = state.OuterBlock ?? 0,
                Table = state.OuterBlock is null ? null : files.Floats(parts[5]),
                Offset = state.Offset,
            },
        };
    }

    private static PackedTensor EightBits(StoredParts files, string module)
    {
        var name = $"{module}.weight";
        var (scales, codes, format) = (files.Take(module + RowScale, name), files.Take(name, name), files.TakeIfThere($"{module}.weight_format"));
        StoredParts.RequireType(codes, DType.I8);
        StoredParts.RequireType(scales, DType.F32);
        StoredParts.RequireDimensions(codes, 2);
        StoredParts.RequireShape(scales, $"{codes.Name} {Wording.Shape(codes.Shape)}", [codes.Shape[0]]);
        if (format is not null && files.Bytes(format).Any(static b => b != 0))
        {
            throw new InvalidDataException($"{format.FilePath}: {format.Name} says that {name} is in the order of a GPU's tiles, which only old versions of bitsandbytes wrote; save the model again with a newer version");
        }

        return new PackedTensor(name, codes.Shape, [codes, scales])
        {
            Read = _ => Scaled.Matrix(codes.Shape[0], codes.Shape[1], files.Bytes(codes), SmallFloats.SignedBytes, new PackedScales
            {
                Rows = codes.Shape[0],
                Columns = 1,
                BlockRows = 1,
                BlockColumns = codes.Shape[1],
                Type = DType.F32,
                Bytes = Scaled.Of(files.Floats(scales), static scale => scale / 127f),
            }),
        };
    }

    private sealed record QuantState(IReadOnlyList<long> Shape, int BlockSize, int? OuterBlock, float Offset)
    {
        public static QuantState Read(StoredParts files, TensorEntry entry)
        {
            try
            {
                var json = JsonNode.Parse(files.Bytes(entry))!.AsObject();
                long[] shape = [.. json["shape"]!.AsArray().Select(static size => size!.GetValue<long>())];
                var (block, outer) = (json["blocksize"]!.GetValue<int>(), json["nested_blocksize"]?.GetValue<int>());
                return shape is [> 0, > 0] && block > 1 && block % 2 == 0 && outer is null or > 0
                    ? new QuantState(shape, block, outer, json["nested_offset"]?.GetValue<float>() ?? 0)
                    : throw new FormatException("the shape is not that of a matrix, or a block size is impossible");
            }
            catch (Exception e) when (e is System.Text.Json.JsonException or InvalidOperationException or NullReferenceException or FormatException or OverflowException)
            {
                throw new InvalidDataException($"{entry.FilePath}: {entry.Name} is no description of a quantised matrix ({e.Message}); {Wording.DamagedAdvice}", e);
            }
        }
    }
}
