using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>Several feed-forward blocks that read the same normalised states; their outputs are added (Granite: a mixture of experts beside a shared block).</summary>
public sealed class ParallelFeedForward : LayerPart
{
    private readonly ParallelFeedForwardSettings _settings;
    private readonly List<LayerPart> _parts = [];

    /// <summary>Creates the blocks of a layer.</summary>
    /// <param name="settings">Settings of the blocks.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the layer in the checkpoint; the blocks are modules of the layer.</param>
    public ParallelFeedForward(ParallelFeedForwardSettings settings, IWeightSource weights, string name)
        : base(nameof(ParallelFeedForward))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _settings = settings;
        foreach (var block in settings.Blocks)
        {
            var part = block.Make(weights, $"{name}.{block.ModuleName}");
            register_module(block.ModuleName, part);
            _parts.Add(part);
        }
    }

    // The normalised states, which all blocks read.
    internal override KeptElements Kept
    {
        get
        {
            var kept = _parts.ConvertAll(static p => p.Kept);
            return new KeptElements(kept.Sum(static k => k.Always), [.. kept.SelectMany(static k => k.Inputs).Where(i => i.Width != _settings.HiddenSize)]);
        }
    }

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var input = norm?.call(states) ?? states;
        var sum = _parts[0].Run(input, null, context);
        foreach (var part in _parts.Skip(1))
        {
            sum = sum.Plus(part.Run(input, null, context));
        }

        return sum.MoveToOuterDisposeScope();
    }
}

/// <summary>Settings of several feed-forward blocks side by side.</summary>
public sealed record ParallelFeedForwardSettings : FeedForwardSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "";

    /// <summary>Hidden size: width of their input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>The blocks.</summary>
    public required IReadOnlyList<FeedForwardSettings> Blocks { get; init; }

    internal override int? RoutedExperts => Blocks.Select(static b => b.RoutedExperts).FirstOrDefault(static n => n is not null);

    internal override LayerPart Make(IWeightSource weights, string name) => new ParallelFeedForward(this, weights, name);
}
