using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Packed;

/// <summary>Which weights of a model are written quantized.</summary>
internal sealed class PackPlan
{
    private readonly IWeightPacker _packer;
    private readonly CheckpointWeights _weights;
    private readonly ScalarType _dtype;
    private readonly HashSet<string> _linear;
    private readonly HashSet<string> _experts;
    private readonly List<string> _inFull = [];

    /// <summary>Plans the writing of a model.</summary>
    /// <param name="packer">How weights are quantized.</param>
    /// <param name="weights">The base model's weights.</param>
    /// <param name="model">The base model, possibly with meta weights.</param>
    /// <param name="dtype">Data type of what is written in full.</param>
    /// <exception cref="InvalidDataException">The model has no weight that the packer takes.</exception>
    internal PackPlan(IWeightPacker packer, CheckpointWeights weights, CausalLanguageModel model, ScalarType dtype)
    {
        (_packer, _weights, _dtype) = (packer, weights, dtype);
        _linear = [.. model.LinearLayers.Where(l => !l.Layer.IsRouter && l.Name != model.Config.OutputModule).Select(static l => $"{l.Name}.weight")];
        _experts = [.. model.ExpertMatrices.Select(static m => m.Name)];
        var others = model.LinearLayers.Select(static l => $"{l.Name}.weight").Where(name => !_linear.Contains(name)).ToHashSet(StringComparer.Ordinal);
        var packs = false;
        foreach (var entry in weights.Stored.Tensors)
        {
            packs |= Takes(entry);
            if (!Takes(entry) && weights.HeldBy(entry.Name).Any(piece => others.Contains(piece.Module) || _linear.Contains(piece.Module)))
            {
                _inFull.Add(entry.Name.EndsWith(".weight", StringComparison.Ordinal) ? entry.Name[..^".weight".Length] : entry.Name);
            }
        }

        if (model.Config.TiedEmbeddings)
        {
            _inFull.Insert(0, model.Config.Names.Head);
        }

        if (!packs)
        {
            throw new InvalidDataException($"{weights.Location}: a model of the family {model.Config.ModelType} has no weights that this quantization packs{(packer is Mxfp4Packer ? "; mxfp4 is for the experts of gpt_oss" : "")}.");
        }
    }

    /// <summary>The quantization_config of config.json.</summary>
    internal JsonObject Config => _packer.Config(_inFull);

    /// <summary>The tensors to write for a stored one; null if it is written in full.</summary>
    /// <param name="entry">The stored tensor.</param>
    /// <param name="values">Creates its values.</param>
    internal IEnumerable<TensorToWrite>? Pack(TensorEntry entry, Func<Tensor> values) => Takes(entry) ? _packer.Pack(entry.Name, entry.Shape, _dtype, values) : null;

    private bool Takes(TensorEntry entry)
    {
        var held = _weights.HeldBy(entry.Name);
        var role = held.Count == 0 ? WeightRole.Other
            : held.All(piece => _linear.Contains(piece.Module)) ? WeightRole.Linear
            : held.All(piece => _experts.Contains(piece.Module)) ? WeightRole.Expert
            : WeightRole.Other;
        return role != WeightRole.Other && entry.DType is DType.F32 or DType.F16 or DType.BF16 && _packer.Takes(role, entry.Shape);
    }
}
