using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Torch;

/// <summary>Tensors from files, in one piece and in many.</summary>
public sealed class TensorFilesTests
{
    // Longer than the buffer through which tensors are converted, and no multiple of any part.
    private const long Elements = (1L << 25) + (1L << 23) + 12345;

    [Test]
    public void A_large_tensor_is_read_whole_in_its_own_dtype_and_in_another()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var values = arange(Elements, int32).remainder(251.ToScalar()).to(bfloat16);
        SafetensorsWriter.Write(folder.At("t.safetensors"), [TensorFiles.ToWrite("t", values)]);
        using var file = SafetensorsFile.Open(folder.At("t.safetensors"));
        Assert.That(TensorFiles.Read(file, "t").eq(values).all().ToBoolean());
        var converted = TensorFiles.Read(file, "t", float32);
        Assert.That(converted.dtype, Is.EqualTo(float32));
        Assert.That(converted.eq(values).all().ToBoolean());
    }

    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    public void Every_number_of_sixteen_bits_is_read_as_the_same_number_in_float32(ScalarType stored)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var bits = Enumerable.Range(0, 1 << 16).Select(static i => (ushort)i).Append((ushort)1).ToArray();
        var type = stored == ScalarType.BFloat16 ? DType.BF16 : DType.F16;
        SafetensorsWriter.Write(folder.At("t.safetensors"), [new TensorToWrite("t", type, [bits.Length], stream => stream.Write(MemoryMarshal.AsBytes<ushort>(bits)))]);
        using var file = SafetensorsFile.Open(folder.At("t.safetensors"));
        var read = MemoryMarshal.Cast<byte, float>(TensorFiles.Read(file, "t", float32).bytes).ToArray();
        for (var i = 0; i < bits.Length; i++)
        {
            var expected = type == DType.BF16 ? BitConverter.UInt32BitsToSingle((uint)bits[i] << 16) : (float)BitConverter.UInt16BitsToHalf(bits[i]);
            Assert.That(float.IsNaN(expected) ? float.IsNaN(read[i]) : BitConverter.SingleToInt32Bits(read[i]) == BitConverter.SingleToInt32Bits(expected), $"{bits[i]:x4} became {read[i]}, not {expected}");
        }
    }

    [Test]
    [Platform(Exclude = "Win", Reason = "Windows does not let an open file become shorter")]
    public void A_file_that_became_shorter_is_told_by_its_name()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        SafetensorsWriter.Write(folder.At("t.safetensors"), [TensorFiles.ToWrite("t", zeros([1 << 24], bfloat16))]);
        using var file = SafetensorsFile.Open(folder.At("t.safetensors"));
        using (var shorter = File.Open(folder.At("t.safetensors"), FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete))
        {
            shorter.SetLength(1 << 20);
        }

        Assert.That(() => TensorFiles.Read(file, "t"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("t.safetensors"));
        Assert.That(() => TensorFiles.Read(file, "t", float32), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("t.safetensors"));
    }
}
