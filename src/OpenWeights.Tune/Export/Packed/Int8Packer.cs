using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Packed;

/// <summary>8 bits as bitsandbytes stores them (LLM.int8): a weight, and SCB, the largest magnitude of each of its rows.</summary>
internal sealed class Int8Packer : IWeightPacker
{
    public bool Takes(WeightRole role, IReadOnlyList<long> shape) => role == WeightRole.Linear && shape.Count == 2;

    public JsonObject Config(IReadOnlyList<string> inFull) => BitsAndBytesPacker.Config(inFull, is4Bit: false, isDouble: false);

    public IEnumerable<TensorToWrite> Pack(string name, IReadOnlyList<long> shape, ScalarType dtype, Func<Tensor> values)
    {
        var module = name[..^".weight".Length];
        yield return new TensorToWrite(name, DType.I8, shape, stream => Write(values, stream, static (weight, to) =>
        {
            using var quantized = Int8Weight.Of(weight);
            to.Write(quantized.Packed!.Codes.cpu().bytes);
        }));
        yield return new TensorToWrite($"{module}.SCB", DType.F32, [shape[0]], stream => Write(values, stream, static (weight, to) => to.Write(weight.to(float32).abs().amax(1).cpu().bytes)));
        yield return new TensorToWrite($"{module}.weight_format", DType.U8, [], static stream => stream.WriteByte(0));
    }

    private static void Write(Func<Tensor> values, Stream stream, Action<Tensor, Stream> write)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        write(values(), stream);
    }
}
