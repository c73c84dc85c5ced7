using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>A weight of a safetensors file, of the dtype that <see cref="Part.Precision"/> says, read as float32.</summary>
public class ReadPart : Part
{
    private string _path = "";
    private SafetensorsFile _file = null!;

    private long Elements => Size(4L * HiddenSize * InnerSize, 1 << 12);

    /// <inheritdoc/>
    internal override double Work => Elements * (DType == float32 ? 4.0 : 2.0);

    /// <inheritdoc/>
    internal override string Unit => "GB/s";

    /// <inheritdoc/>
    public override void Cleanup()
    {
        base.Cleanup();
        _file.Dispose();
        File.Delete(_path);
    }

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => [TensorFiles.Read(_file, "w", float32)];

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition()
    {
        var stored = empty([Elements], DType);
        _file.CopyTo("w", 0, stored.bytes);
        return [stored.to(float32)];
    }

    private protected override void Prepare()
    {
        _path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        SafetensorsWriter.Write(_path, [TensorFiles.ToWrite("w", randn([Elements]).to(DType))]);
        _file = SafetensorsFile.Open(_path);
    }
}
