using OpenWeights.Tune.Kernels;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Streams;

/// <summary>Settings of a learned augmented residual layer.</summary>
internal sealed record LaurelSettings : FeedForwardSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "laurel";

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Rank of its product (laurel_rank).</summary>
    public required int Rank { get; init; }

    /// <summary>Settings of its norm.</summary>
    public required NormSettings Norm { get; init; }

    internal override LayerPart Make(IWeightSource weights, string name) => new Laurel(this, weights, name);
}

/// <summary>Learned augmented residual layer (Menghani et al., 2024): x + norm(B A x), beside a layer's attention.</summary>
internal sealed class Laurel : LayerPart
{
    [ComponentName(Name = "linear_left")]
    private readonly LinearLayer _left;

    [ComponentName(Name = "linear_right")]
    private readonly LinearLayer _right;

    [ComponentName(Name = "post_laurel_norm")]
    private readonly Norm _norm;

    private readonly LaurelSettings _settings;

    /// <summary>Creates the part.</summary>
    /// <param name="settings">Its settings.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public Laurel(LaurelSettings settings, IWeightSource weights, string name)
        : base(nameof(Laurel))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _settings = settings;
        var (hidden, rank) = (new Dimension("hidden_size", settings.HiddenSize), new Dimension("laurel_rank", settings.Rank));
        _left = LinearLayer.Take(weights, $"{name}.linear_left", rank, hidden, hasBias: false);
        _right = LinearLayer.Take(weights, $"{name}.linear_right", hidden, rank, hasBias: false);
        _norm = settings.Norm.Take(weights, $"{name}.post_laurel_norm", hidden);
        RegisterComponents();
    }

    // The input of its norm.
    internal override KeptElements Kept => new(
        new(_settings.HiddenSize),
        [new KeptInput([_right], _settings.Rank, IsMadeAgain: false), new KeptInput([_left], _settings.HiddenSize, IsMadeAgain: false)],
        [new TokenMemory(_settings.HiddenSize, Widened: _settings.HiddenSize)]);

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var input = norm?.call(states) ?? states;
        return input.Plus(_norm.call(_right.call(_left.call(input)))).MoveToOuterDisposeScope();
    }
}
