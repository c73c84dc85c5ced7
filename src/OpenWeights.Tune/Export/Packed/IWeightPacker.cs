using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Packed;

/// <summary>Writes weights quantized, in the layout that transformers reads.</summary>
internal interface IWeightPacker
{
    /// <summary>Whether it packs a weight.</summary>
    /// <param name="role">What the weight is.</param>
    /// <param name="shape">Its shape in the file.</param>
    bool Takes(WeightRole role, IReadOnlyList<long> shape);

    /// <summary>The quantization_config of config.json.</summary>
    /// <param name="inFull">Names of the linear layers that are written in full.</param>
    JsonObject Config(IReadOnlyList<string> inFull);

    /// <summary>The tensors to write for a weight.</summary>
    /// <param name="name">Name of the weight in the file, such as model.layers.0.mlp.up_proj.weight.</param>
    /// <param name="shape">Its shape.</param>
    /// <param name="dtype">Data type of what is written in full.</param>
    /// <param name="values">Creates its values, in the dispose scope current at that time.</param>
    IEnumerable<TensorToWrite> Pack(string name, IReadOnlyList<long> shape, ScalarType dtype, Func<Tensor> values);
}

/// <summary>What a weight is.</summary>
internal enum WeightRole
{
    /// <summary>Of a linear layer other than the head and routers.</summary>
    Linear,

    /// <summary>Of one expert, or of all experts.</summary>
    Expert,

    /// <summary>Anything else.</summary>
    Other,
}

/// <summary>The packers by name. To add one, add its file and a line here.</summary>
internal static class WeightPackers
{
    private static readonly Dictionary<string, Func<IWeightPacker>> s_packers = new(StringComparer.Ordinal)
    {
        ["nf4"] = static () => new BitsAndBytesPacker(isDouble: false),
        ["nf4_double"] = static () => new BitsAndBytesPacker(isDouble: true),
        ["int8"] = static () => new Int8Packer(),
        ["fp8"] = static () => new Fp8Packer(),
        ["mxfp4"] = static () => new Mxfp4Packer(),
    };

    /// <summary>The names, in registration order.</summary>
    public static IReadOnlyList<string> Names => [.. s_packers.Keys];

    /// <summary>A packer by its name; null or none for none.</summary>
    /// <exception cref="ArgumentException">The name is unknown.</exception>
    internal static IWeightPacker? Of(string? name) => name is null or "none" ? null
        : s_packers.TryGetValue(name, out var make) ? make()
        : throw new ArgumentException($"'{name}' is no quantization to write; valid are {string.Join(", ", Names)}.", nameof(name));
}
