using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>Settings of two feed-forwards side by side, whose outputs are summed: a block, and a mixture of experts beside it (Gemma 4).</summary>
internal sealed record FeedForwardPairSettings : FeedForwardSettings
{
    /// <summary>Its parts are the decoder layer's own.</summary>
    public override string ModuleName { get; init; } = "";

    /// <summary>The first, which reads what the layer's norm gives.</summary>
    public required FeedForwardSettings First { get; init; }

    /// <summary>The second, with a norm of its own.</summary>
    public required FeedForwardSettings Second { get; init; }

    /// <summary>Name of the norm of what the first gives.</summary>
    public required string AfterFirst { get; init; }

    /// <summary>Name of the norm of what the second reads.</summary>
    public required string BeforeSecond { get; init; }

    /// <summary>Name of the norm of what the second gives.</summary>
    public required string AfterSecond { get; init; }

    /// <summary>Hidden size: width of the norms.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Settings of the norms.</summary>
    public required NormSettings Norm { get; init; }

    internal override int? RoutedExperts => First.RoutedExperts ?? Second.RoutedExperts;

    internal override LayerPart Make(IWeightSource weights, string name) => new FeedForwardPair(this, weights, name);
}

/// <summary>Two feed-forwards side by side: norm(first(x)) + norm(second(x)).</summary>
internal sealed class FeedForwardPair : LayerPart
{
    // Registered under the checkpoint's names, which differ among families, so they are not fields registered by field name.
    private readonly (LayerPart Part, Norm After) _first;
    private readonly (Norm Before, LayerPart Part, Norm After) _second;
    private readonly int _hidden;

    /// <summary>Creates the pair.</summary>
    /// <param name="settings">Its settings.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public FeedForwardPair(FeedForwardPairSettings settings, IWeightSource weights, string name)
        : base(nameof(FeedForwardPair))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _hidden = settings.HiddenSize;
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        Norm AddNorm(string norm) => this.Register(norm, settings.Norm.Take(weights, ModuleNames.Within(name, norm), hidden));
        LayerPart Add(FeedForwardSettings part) => this.Register(part.ModuleName, part.Make(weights, ModuleNames.Within(name, part.ModuleName)));
        _first = (Add(settings.First), AddNorm(settings.AfterFirst));
        _second = (AddNorm(settings.BeforeSecond), Add(settings.Second), AddNorm(settings.AfterSecond));
    }

    // What both keep, and the inputs of the three norms.
    internal override KeptElements Kept
    {
        get
        {
            var (first, second) = (_first.Part.Kept, _second.Part.Kept);
            return new KeptElements(
                first.Always + second.Always + new TokenMemory(3L * _hidden), [.. first.Inputs, .. second.Inputs], [.. first.Working.Concat(second.Working).Select(w => w + new TokenMemory(2L * _hidden))]);
        }
    }

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var first = _first.After.call(_first.Part.Run(states, norm, context.ForValues));
        return first.Plus(_second.After.call(_second.Part.Run(states, _second.Before, context.ForValues))).MoveToOuterDisposeScope();
    }
}
