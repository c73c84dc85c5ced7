using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>The weights of a part of a model, which are gathered and freed together.</summary>
internal sealed class SharedUnit : IDisposable
{
    private readonly List<QuantizedWeight> _quantized;

    /// <summary>Keeps this rank's part of the weights, and frees them.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="part">The part of the model.</param>
    internal SharedUnit(RankGroup ranks, nn.Module part)
    {
        var modules = part.named_modules().Select(static m => m.module).Append(part).Distinct().ToList();
        QuantizedWeight[] quantized =
        [
            .. modules.OfType<LinearLayer>().Select(static l => l.Quantized).OfType<QuantizedWeight>(),
            .. modules.OfType<StackedExperts>().SelectMany(static e => e.Matrices).SelectMany(static m => m.Quantized ?? []),
        ];
        _quantized = [.. quantized.Where(static q => q.Movable is not null)];

        // What may be trained lies apart from what never is.
        List<Tensor> trainable = [.. part.named_parameters().Select(static p => (Tensor)p.parameter)];
        List<Tensor> fixedValues = [.. part.named_buffers().Select(static b => b.buffer), .. _quantized.SelectMany(static q => q.Movable!)];
        Flats = [.. new[] { trainable, fixedValues }.SelectMany(static t => t.GroupBy(static t => t.dtype)).Select(g => new FlatTensors(ranks, [.. g]))];
        _quantized.ForEach(static q => q.Moved());
    }

    /// <summary>The weights, by data type.</summary>
    internal IReadOnlyList<FlatTensors> Flats { get; }

    /// <summary>Bytes in this rank's memory.</summary>
    internal long Bytes => Flats.Sum(static f => f.Bytes);

    /// <summary>Begins to gather the weights, if they are not gathered.</summary>
    internal void Begin()
    {
        foreach (var flat in Flats)
        {
            flat.Begin();
        }
    }

    /// <summary>Gathers the weights; afterwards they have their values.</summary>
    internal void Gather()
    {
        if (Flats.All(static f => f.IsWhole))
        {
            return;
        }

        Begin();
        foreach (var flat in Flats)
        {
            flat.Gather();
        }

        _quantized.ForEach(static q => q.Moved());
    }

    /// <summary>Frees what was gathered.</summary>
    internal void Free()
    {
        if (!Flats.Any(static f => f.IsGathered))
        {
            return;
        }

        foreach (var flat in Flats)
        {
            flat.Free();
        }

        _quantized.ForEach(static q => q.Moved());
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var flat in Flats)
        {
            flat.Dispose();
        }
    }
}
