using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>The source of each tensor of a merged model.</summary>
internal sealed class MergePlan
{
    private readonly CheckpointWeights _weights;
    private readonly DecoderNames _names;
    private readonly CombinedAdapter _adapters;
    private readonly Dictionary<string, LinearLayer> _quantized;
    private readonly Dictionary<string, ExpertMatrix> _experts;
    private readonly bool _tied;
    private readonly string? _newHead;
    private readonly bool _hasLabels;

    /// <summary>Creates a plan.</summary>
    /// <param name="weights">Weights of the base model.</param>
    /// <param name="names">Names of its modules.</param>
    /// <param name="tied">Whether embedding and output head are tied in the base model.</param>
    /// <param name="adapters">The adapters to merge.</param>
    /// <param name="model">The base model, if it is quantized and its dequantized values are to be used; otherwise null.</param>
    /// <param name="labels">The labels of the head that the adapters bring or train; null for a language model.</param>
    /// <exception cref="InvalidDataException">An adapter changes a tensor that the base model does not have.</exception>
    internal MergePlan(CheckpointWeights weights, DecoderNames names, bool tied, CombinedAdapter adapters, CausalLanguageModel? model, LabelHead? labels = null)
    {
        (_weights, _names, _tied, _adapters) = (weights, names, tied, adapters);
        _quantized = model?.LinearLayers.Where(static l => l.Layer.Quantized is not null).ToDictionary(static l => $"{l.Name}.weight", static l => l.Layer) ?? [];
        _experts = model?.ExpertMatrices.Where(static m => m.Matrix.Quantized is not null).ToDictionary(static m => m.Name, static m => m.Matrix) ?? [];
        Unties = tied && !adapters.KeepsTie && adapters.ChangedTensors.Any(t => t == names.EmbeddingWeight || t == names.HeadWeight);
        _hasLabels = labels is not null;
        _newHead = labels is null || weights.TryGetTensor($"{LabelHead.Module}.weight", out _) ? null : $"{LabelHead.Module}.weight";
        if (adapters.Unmergeable is { } reason)
        {
            throw new InvalidDataException($"{reason}; it cannot be merged. Export it with --format peft.");
        }

        var missing = adapters.ChangedTensors.Where(t => !weights.TryGetTensor(t, out _) && !(tied && t == names.HeadWeight) && t != _newHead).Order(StringComparer.Ordinal).ToList();
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
            var tensors = _weights.Tensors.Where(t => !IsCopy(t.Name)).Select(static t => (t.Name, t)).ToList();
            if (Unties)
            {
                tensors.Add((_names.HeadWeight, _weights.GetTensor(_names.EmbeddingWeight)));
            }

            return tensors;
        }
    }

    /// <summary>The tensors to write, as the base model's files have them.</summary>
    /// <param name="dtype">The dtype to write a stored tensor in; null for its own.</param>
    /// <param name="pack">As <see cref="LayoutWriter.Pack"/>; null to write all in full.</param>
    internal IEnumerable<TensorToWrite> ToWrite(Func<TensorEntry, ScalarType?> dtype, Func<TensorEntry, Func<Tensor>, IEnumerable<TensorToWrite>?>? pack = null)
    {
        var writer = new LayoutWriter(_weights)
        {
            IsNew = name => !IsAsStored(name),
            Values = name => Values(name, _weights.GetTensor(name)),
            PartValues = piece => Values(piece.Module, _weights.GetTensor(piece.Module), piece.ModuleFirst, [piece.Count]),
            DType = dtype,
            NewShape = _adapters.NewShape,
            IsLeftOut = name => IsCopy(name) || (_hasLabels && (name == _names.HeadWeight || name == $"{_names.Head}.bias")),
            Pack = pack,
        };
        foreach (var tensor in writer.Tensors())
        {
            yield return tensor;
        }

        if (_newHead is { } head && _adapters.ChangedTensors.Contains(head))
        {
            // In the type of the embedding; its shape is known once it is read.
            var like = _weights.GetTensor(_names.EmbeddingWeight);
            yield return TensorFiles.ToWrite(head, dtype(like) ?? TensorFiles.ToTorch(like), HeadShape(head), () => Head(head));
        }

        if (Unties)
        {
            var embedding = _weights.GetTensor(_names.EmbeddingWeight);
            yield return TensorFiles.ToWrite(_weights.StoredName(_names.HeadWeight), dtype(embedding) ?? TensorFiles.ToTorch(embedding), _adapters.NewShape(_names.HeadWeight) ?? embedding.Shape, () => Values(_names.HeadWeight, embedding));
        }
    }

    /// <summary>Number of tokens of the merged model; null for the base's.</summary>
    internal int? Vocabulary => _adapters.NewShape(_names.EmbeddingWeight) is [var rows, _] ? (int)rows : null;

    /// <summary>Whether a tensor is a copy of the tied head, which a checkpoint may have all the same.</summary>
    internal bool IsCopy(string name) => _tied && name == _names.HeadWeight;

    /// <summary>Whether a tensor's values equal those in the base model's files.</summary>
    internal bool IsAsStored(string name) => !_adapters.ChangedTensors.Contains(name) && !_quantized.ContainsKey(name) && !_experts.ContainsKey(name);

    /// <summary>The values of a tensor, float32, on the CPU, in the current dispose scope.</summary>
    internal Tensor Values(string name, TensorEntry source)
    {
        if (_experts.TryGetValue(name, out var experts))
        {
            return stack([.. Enumerable.Range(0, experts.Count).Select(i => OfExpert(name, source, i))]);
        }

        var weight = _quantized.GetValueOrDefault(name) is { Quantized: { } quantized } layer
            ? quantized.Rows(0, layer.OutFeatures, float32).cpu()
            : TensorFiles.Read(_weights, source.Name, float32);
        return _adapters.ChangedTensors.Contains(name) ? _adapters.Merged(name, weight) : weight;
    }

    /// <summary>A part of a tensor's values; of a stack of experts no other expert's values are read.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="source">Its entry in the base model.</param>
    /// <param name="first">First element of the part.</param>
    /// <param name="shape">Shape of the part.</param>
    internal Tensor Values(string name, TensorEntry source, long first, IReadOnlyList<long> shape)
    {
        var count = shape.Aggregate(1L, static (product, size) => product * size);
        var each = source.Shape.Count == 3 ? source.ElementCount / source.Shape[0] : source.ElementCount;
        var values = first / each == (first + count - 1) / each && each < source.ElementCount ? OfExpert(name, source, (int)(first / each)) : Values(name, source);
        var start = values.numel() == each ? first % each : first;
        return values.reshape(-1).narrow(0, start, count).view([.. shape]);
    }

    // A head of labels that the adapter brings.
    private Tensor Head(string name) => _adapters.Merged(name, zeros([1], float32));

    private long[] HeadShape(string name)
    {
        using var scope = NewDisposeScope();
        return Head(name).shape;
    }

    private Tensor OfExpert(string name, TensorEntry source, int expert)
    {
        var weight = _experts.GetValueOrDefault(name) is { Quantized: { } quantized } matrix
            ? Quantized(quantized[expert], matrix.IsTransposed)
            : TensorFiles.ReadPart(_weights, source.Name, expert, CPU).to(float32);
        return _adapters.ChangedTensors.Contains(name) ? _adapters.MergedExpert(name, expert, weight) : weight;
    }

    private static Tensor Quantized(QuantizedWeight weight, bool isTransposed)
    {
        var rows = weight.Rows(0, weight.OutFeatures, float32).cpu();
        return isTransposed ? rows.t().contiguous() : rows;
    }
}
