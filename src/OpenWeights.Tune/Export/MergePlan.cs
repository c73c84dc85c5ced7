using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>The source of each tensor of a merged model.</summary>
internal sealed class MergePlan
{
    internal const string Embedding = "model.embed_tokens.weight";
    internal const string Head = "lm_head.weight";
    private readonly CheckpointWeights _weights;
    private readonly CombinedAdapter _adapters;
    private readonly Dictionary<string, LinearLayer> _quantized;
    private readonly bool _tied;

    /// <summary>Creates a plan.</summary>
    /// <param name="weights">Weights of the base model.</param>
    /// <param name="tied">Whether embedding and output head are tied in the base model.</param>
    /// <param name="adapters">The adapters to merge.</param>
    /// <param name="model">The base model, if it is quantized and its dequantized values are to be used; otherwise null.</param>
    /// <exception cref="InvalidDataException">An adapter changes a tensor that the base model does not have.</exception>
    internal MergePlan(CheckpointWeights weights, bool tied, CombinedAdapter adapters, CausalLanguageModel? model)
    {
        (_weights, _tied, _adapters) = (weights, tied, adapters);
        _quantized = model?.LinearLayers.Where(static l => l.Layer.Quantized is not null).ToDictionary(static l => $"{l.Name}.weight", static l => l.Layer) ?? [];
        Unties = tied && !adapters.KeepsTie && adapters.ChangedTensors.Any(static t => t is Embedding or Head);
        var missing = adapters.ChangedTensors.Where(t => !weights.TryGetTensor(t, out _) && !(tied && t == Head)).Order(StringComparer.Ordinal).ToList();
        if (missing.Count > 0)
        {
            throw new InvalidDataException($"the adapter changes {missing[0]}{(missing.Count > 1 ? $" and {missing.Count - 1} more tensors" : "")}, which the base model does not have; such an adapter (lora_bias) cannot be merged.");
        }
    }

    /// <summary>Whether embedding and output head, tied in the base model, are untied in the merged one.</summary>
    internal bool Unties { get; }

    /// <summary>The merged model's tensors by name, with the base model's entry for each.</summary>
    internal IReadOnlyList<(string Name, TensorEntry Source)> Tensors
    {
        get
        {
            // A tied checkpoint may still contain a copy of the head.
            var tensors = _weights.Tensors.Where(t => !(_tied && t.Name == Head)).Select(static t => (t.Name, t)).ToList();
            if (Unties)
            {
                tensors.Add((Head, _weights.GetTensor(Embedding)));
            }

            return tensors;
        }
    }

    /// <summary>Whether a tensor's values equal those in the base model's files.</summary>
    internal bool IsAsStored(string name) => !_adapters.ChangedTensors.Contains(name) && !_quantized.ContainsKey(name);

    /// <summary>The values of a tensor, float32, on the CPU, in the current dispose scope.</summary>
    internal Tensor Values(string name, TensorEntry source)
    {
        var weight = _quantized.GetValueOrDefault(name) is { Quantized: { } quantized } layer
            ? quantized.Rows(0, layer.OutFeatures, float32).cpu()
            : TensorFiles.Read(_weights, source.Name, float32);
        return _adapters.ChangedTensors.Contains(name) ? _adapters.Merged(name, weight) : weight;
    }
}
