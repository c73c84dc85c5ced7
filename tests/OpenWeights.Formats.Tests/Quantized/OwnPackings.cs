using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Quantized;

/// <summary>Small quantised checkpoints, packed here code by code as the formats are described, and read back.</summary>
internal static class OwnPackings
{
    /// <summary>Writes a model folder with some tensors.</summary>
    internal static ModelFolder Write(TemporaryFolder folder, JsonObject settings, params (string Name, DType Type, long[] Shape, byte[] Bytes)[] tensors)
    {
        File.WriteAllText(folder.At("config.json"), new JsonObject { ["model_type"] = "llama", ["quantization_config"] = settings }.ToJsonString());
        SafetensorsWriter.Write(folder.At("model.safetensors"), [.. tensors.Select(static t => new TensorToWrite(t.Name, t.Type, t.Shape, stream => stream.Write(t.Bytes)))]);
        return ModelFolder.Open(folder.Root);
    }

    /// <summary>Codes one after the other as a stream of bits, the first in the lowest, in 32-bit words.</summary>
    internal static uint[] Stream(IReadOnlyList<int> codes, int bits)
    {
        var words = new uint[((codes.Count * bits) + 31) / 32];
        for (var i = 0; i < codes.Count; i++)
        {
            for (var bit = 0; bit < bits; bit++)
            {
                words[((i * bits) + bit) / 32] |= (uint)((codes[i] >> bit) & 1) << (((i * bits) + bit) % 32);
            }
        }

        return words;
    }

    internal static byte[] Bytes(IEnumerable<uint> words) => MemoryMarshal.AsBytes(words.ToArray().AsSpan()).ToArray();

    internal static byte[] Bytes(IEnumerable<float> values) => MemoryMarshal.AsBytes(values.ToArray().AsSpan()).ToArray();

    internal static byte[] Halves(IEnumerable<float> values) => [.. values.SelectMany(static v =>
    {
        var two = new byte[2];
        BinaryPrimitives.WriteHalfLittleEndian(two, (Half)v);
        return two;
    })];

    internal static float[] Floats(ITensorSource source, string name) => MemoryMarshal.Cast<byte, float>(source.ReadBytes(name)).ToArray();
}
