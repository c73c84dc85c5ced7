using System.Globalization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Bytes of the tensors of a model by where they are used.</summary>
/// <param name="First">Ahead of the layers: the embedding, unless it is tied to the head, and what layers have in common.</param>
/// <param name="Layers">In each layer.</param>
/// <param name="Last">Behind the layers: the final norm and the head.</param>
internal sealed record LayerBytes(long First, IReadOnlyList<long> Layers, long Last)
{
    /// <summary>Those of a model's weights.</summary>
    /// <param name="model">The model.</param>
    internal static LayerBytes Of(CausalLanguageModel model) => Sum(model.Config, Weights(model));

    /// <summary>All bytes.</summary>
    internal long Total => First + Layers.Sum() + Last;

    /// <summary>These and others.</summary>
    /// <param name="other">The others, of a model with as many layers.</param>
    internal LayerBytes Plus(LayerBytes other) => new(First + other.First, [.. Layers.Zip(other.Layers, static (a, b) => a + b)], Last + other.Last);

    /// <summary>All of them times a factor.</summary>
    /// <param name="factor">The factor.</param>
    internal LayerBytes Times(double factor) => factor == 1 ? this : new((long)(First * factor), [.. Layers.Select(b => (long)(b * factor))], (long)(Last * factor));

    /// <summary>Adds up bytes of tensors by their names.</summary>
    /// <param name="config">The model's config.</param>
    /// <param name="tensors">Names and bytes of the tensors.</param>
    internal static LayerBytes Sum(DecoderConfig config, IEnumerable<(string Name, long Bytes)> tensors)
    {
        var (first, layers, last) = (0L, new long[config.LayerCount], 0L);
        foreach (var (name, bytes) in tensors)
        {
            switch (PlaceOf(config, name))
            {
                case -1:
                    first += bytes;
                    break;
                case var place when place < layers.Length:
                    layers[place] += bytes;
                    break;
                default:
                    last += bytes;
                    break;
            }
        }

        return new LayerBytes(first, layers, last);
    }

    /// <summary>Where a module or tensor is used: its layer, -1 ahead of the layers, and the number of layers behind them.</summary>
    /// <param name="config">The model's config.</param>
    /// <param name="name">Name of the module or tensor, such as model.layers.3.mlp.up_proj.weight.</param>
    internal static int PlaceOf(DecoderConfig config, string name)
    {
        var names = config.Names;
        if (!IsWithin(name, names.Stack) || IsWithin(name, $"{names.Stack}.{names.FinalNorm}"))
        {
            return config.LayerCount;
        }

        var layers = $"{names.Stack}.{names.Layers}";
        if (!IsWithin(name, layers))
        {
            return config.TiedEmbeddings && config.Labels is null && IsWithin(name, names.EmbeddingModule) ? config.LayerCount : -1;
        }

        var digits = name.AsSpan(Math.Min(name.Length, layers.Length + 1));
        var end = digits.IndexOf('.');
        return int.TryParse(end < 0 ? digits : digits[..end], NumberStyles.None, CultureInfo.InvariantCulture, out var layer) && layer < config.LayerCount ? layer : config.LayerCount;
    }

    /// <summary>Names and bytes of all weights, packed ones included.</summary>
    /// <param name="model">The model.</param>
    internal static IEnumerable<(string Name, long Bytes)> Weights(CausalLanguageModel model) =>
    [
        .. model.StoredTensors.Select(static t => (t.Name, Bytes(t.Tensor))),
        .. model.LinearLayers.Where(static l => l.Layer.Quantized is not null).Select(static l => ($"{l.Name}.weight", l.Layer.Quantized!.ByteLength)),
        .. model.ExpertMatrices.SelectMany(static m => (m.Matrix.Quantized ?? []).Select(q => (m.Name, q.ByteLength))),
        .. model.Stack.Embedding.Quantized is { } embedding ? [(model.Config.Names.EmbeddingWeight, embedding.ByteLength)] : Array.Empty<(string, long)>(),
    ];

    /// <summary>Bytes of a tensor's elements.</summary>
    internal static long Bytes(Tensor tensor) => tensor.numel() * tensor.element_size();

    private static bool IsWithin(string name, string module) => name.StartsWith(module, StringComparison.Ordinal) && (name.Length == module.Length || name[module.Length] == '.');
}
