using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Packed;

/// <summary>NF4 as bitsandbytes stores it: weight, absmax, quant_map and quant_state of each linear layer.</summary>
/// <param name="isDouble">Whether the scales are quantized as well.</param>
internal sealed class BitsAndBytesPacker(bool isDouble) : IWeightPacker
{
    private const int BlockSize = 64;

    public bool Takes(WeightRole role, IReadOnlyList<long> shape) => role == WeightRole.Linear && shape.Count == 2;

    public JsonObject Config(IReadOnlyList<string> inFull) => Config(inFull, is4Bit: true, isDouble);

    /// <summary>The settings as transformers writes them; without a list, it leaves the head alone.</summary>
    internal static JsonObject Config(IReadOnlyList<string> inFull, bool is4Bit, bool isDouble) => new()
    {
        ["_load_in_4bit"] = is4Bit,
        ["_load_in_8bit"] = !is4Bit,
        ["bnb_4bit_compute_dtype"] = "float32",
        ["bnb_4bit_quant_storage"] = "uint8",
        ["bnb_4bit_quant_type"] = is4Bit ? "nf4" : "fp4",
        ["bnb_4bit_use_double_quant"] = isDouble,
        ["llm_int8_enable_fp32_cpu_offload"] = false,
        ["llm_int8_has_fp16_weight"] = false,
        ["llm_int8_skip_modules"] = inFull.Count <= 1 ? null : new JsonArray([.. inFull.Select(static name => (JsonNode)name)]),
        ["llm_int8_threshold"] = 6.0,
        ["load_in_4bit"] = is4Bit,
        ["load_in_8bit"] = !is4Bit,
        ["quant_method"] = "bitsandbytes",
    };

    public IEnumerable<TensorToWrite> Pack(string name, IReadOnlyList<long> shape, ScalarType dtype, Func<Tensor> values)
    {
        // The codes, which are most of it, are computed again when they are written, so that those of one layer at a time are in memory.
        var scales = new Lazy<Nf4State>(() => Quantize(values, withCodes: false));
        var state = new JsonObject
        {
            ["quant_type"] = "nf4",
            ["blocksize"] = BlockSize,
            ["dtype"] = dtype.ToString().ToLowerInvariant(),
            ["shape"] = new JsonArray([.. shape.Select(static size => (JsonNode)size)]),
        };
        var elements = shape[0] * shape[1];
        var blocks = (elements + BlockSize - 1) / BlockSize;
        yield return new TensorToWrite(name, DType.U8, [(elements + 1) / 2, 1], stream => stream.Write(Quantize(values, withCodes: true).Codes.AsSpan(0, (int)((elements + 1) / 2))));
        yield return new TensorToWrite($"{name}.absmax", isDouble ? DType.U8 : DType.F32, [blocks], stream => stream.Write(scales.Value.Scales));
        yield return Bytes($"{name}.quant_map", DType.F32, 16, FloatBytes(Nf4Weight.Levels));
        if (isDouble)
        {
            state["nested_blocksize"] = Nf4Weight.ScaleBlock;
            state["nested_dtype"] = "float32";
            state["nested_offset"] = (double)scales.Value.Offset;
            yield return Bytes($"{name}.nested_absmax", DType.F32, scales.Value.OuterScales.Length, FloatBytes(scales.Value.OuterScales));
            yield return Bytes($"{name}.nested_quant_map", DType.F32, 256, FloatBytes(DynamicCode.Levels(signed: true)));
        }

        var text = Encoding.UTF8.GetBytes(PythonJson.Serialize(state, indent: null, sortKeys: false));
        yield return Bytes($"{name}.quant_state.bitsandbytes__nf4", DType.U8, text.Length, text);
    }

    private Nf4State Quantize(Func<Tensor> values, bool withCodes)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var quantized = Nf4Weight.Of(values(), BlockSize, isDouble);
        return quantized.State(withCodes);
    }

    private static TensorToWrite Bytes(string name, DType type, long count, byte[] bytes) => new(name, type, [count], stream => stream.Write(bytes));

    private static byte[] FloatBytes(float[] values) => System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
}
