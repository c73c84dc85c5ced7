using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

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

    [Test]
    [Platform(Exclude = "Win", Reason = "Windows does not let an open file become shorter")]
    public void A_file_that_became_shorter_is_told_by_its_name()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        SafetensorsWriter.Write(folder.At("t.safetensors"), [TensorFiles.ToWrite("t", zeros([1 << 24], float32))]);
        using var file = SafetensorsFile.Open(folder.At("t.safetensors"));
        using (var shorter = File.Open(folder.At("t.safetensors"), FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete))
        {
            shorter.SetLength(1 << 20);
        }

        Assert.That(() => TensorFiles.Read(file, "t"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("t.safetensors"));
    }
}
