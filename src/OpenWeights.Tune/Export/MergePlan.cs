using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>What each tensor of a merged model is made of.</summary>
internal sealed class MergePlan
{
    private const string Embedding = "model.embed_tokens.weight";
    private const string Head = "lm_head.weight";
    private readonly CausalLanguageModel _model;
    private readonly CheckpointWeights _weights;
    private readonly AdapterMix _adapters;
    private readonly ScalarType? _dtype;
    private readonly Dictionary<string, LinearLayer> _quantized;

    internal MergePlan(CausalLanguageModel model, CheckpointWeights weights, AdapterMix adapters, ScalarType? dtype)
    {
        (_model, _weights, _adapters, _dtype) = (model, weights, adapters, dtype);
        _quantized = model.LinearLayers.Where(static l => l.Layer.Quantized is not null).ToDictionary(static l => $"{l.Name}.weight", static l => l.Layer);
        Unties = model.Config.TiedEmbeddings && adapters.ChangedTensors.Any(static t => t is Embedding or Head);
        var missing = adapters.ChangedTensors.Where(t => !weights.TryGetTensor(t, out _) && !(model.Config.TiedEmbeddings && t == Head)).Order(StringComparer.Ordinal).ToList();
        if (missing.Count > 0)
        {
            throw new InvalidDataException($"the adapter changes {missing[0]}{(missing.Count > 1 ? $" and {missing.Count - 1} more tensors" : "")}, which the base model does not have; such an adapter (lora_bias) cannot be merged.");
        }
    }

    /// <summary>Whether embedding and head, one weight in the base, are two in the merged model.</summary>
    internal bool Unties { get; }

    /// <summary>The tensors of the merged model; each is made when its turn comes.</summary>
    internal IReadOnlyList<TensorToWrite> Tensors()
    {
        var tied = _model.Config.TiedEmbeddings;

        // A tied checkpoint may hold a copy of the head all the same.
        var tensors = _weights.Tensors.Where(t => !(tied && t.Name == Head)).Select(t => Tensor(t.Name, t)).ToList();
        if (Unties)
        {
            tensors.Add(Tensor(Head, _weights.GetTensor(Embedding)));
        }

        return tensors;
    }

    private TensorToWrite Tensor(string name, TensorEntry source)
    {
        var stored = TensorFiles.ToTorch(source);
        var written = _dtype is { } wanted && stored is ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 ? wanted : stored;
        var changed = _adapters.ChangedTensors.Contains(name);
        var quantized = _quantized.GetValueOrDefault(name);
        if (!changed && quantized is null && written == stored && name == source.Name)
        {
            return TensorToWrite.FromSource(_weights, name);
        }

        return TensorFiles.ToWrite(name, written, source.Shape, () =>
        {
            var weight = quantized?.Quantized!.Rows(0, quantized.OutFeatures, float32).cpu() ?? TensorFiles.Read(_weights, source.Name, float32);
            return changed ? _adapters.Merged(name, weight) : weight;
        });
    }
}
