using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>A mixture of experts: each token is processed by a few experts chosen by a router, and their outputs are summed, weighted by the router.</summary>
internal sealed class MixtureOfExperts : LayerPart
{
    // Registered under the checkpoint's names, which differ among families, so they are not fields registered by field name.
    private readonly (Router Router, StackedExperts Experts, LayerPart? Shared, LinearLayer? SharedGate) _parts;
    private readonly (LinearLayer Down, LinearLayer Up)? _latent;
    private readonly MixtureSettings _settings;

    /// <summary>Creates a mixture of experts.</summary>
    /// <param name="settings">Settings of the mixture.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public MixtureOfExperts(MixtureSettings settings, IWeightSource weights, string name)
        : base(nameof(MixtureOfExperts))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _settings = settings;
        var width = settings.Latent?.HiddenSize ?? settings.Experts.HiddenSize;
        var hidden = new Dimension("hidden_size", width);
        var router = new Router(this, settings.Router, settings.Experts with { HiddenSize = width }, settings.ExpertsPerToken, weights, name);
        var experts = this.Register(settings.ExpertsName, new StackedExperts(settings.Experts, weights, $"{name}.{settings.ExpertsName}"));
        var shared = settings.Shared is { } block ? this.Register(block.ModuleName, block.Make(weights, $"{name}.{block.ModuleName}")) : null;
        var gate = settings.SharedGate is { } sharedGate
            ? this.Register(sharedGate, LinearLayer.Take(weights, $"{name}.{sharedGate}", new Dimension("1", 1), hidden, hasBias: false))
            : null;
        _parts = (router, experts, shared, gate);
        if (settings.Latent is { } latent)
        {
            var narrow = new Dimension("latent size of experts", settings.Experts.HiddenSize);
            LinearLayer Add(string layer, Dimension output, Dimension input) => this.Register(layer, LinearLayer.Take(weights, $"{name}.{layer}", output, input, latent.HasBias));
            _latent = (Add(latent.Down, narrow, hidden), Add(latent.Up, hidden, narrow));
        }
    }

    /// <summary>The experts.</summary>
    internal StackedExperts Experts => _parts.Experts;

    /// <summary>Settings of the mixture.</summary>
    internal MixtureSettings Settings => _settings;

    /// <summary>The router.</summary>
    internal Router Router => _parts.Router;

    /// <summary>The block that processes every token; null for none.</summary>
    internal LayerPart? Shared => _parts.Shared;

    /// <summary>The layer whose sigmoid multiplies its output; null for none.</summary>
    internal LinearLayer? SharedGate => _parts.SharedGate;

    // The first product of each expert that processes a token, and the states, which router, experts and shared block read; a gated shared
    // block's output.
    internal override KeptElements Kept
    {
        get
        {
            long hidden = _settings.Latent?.HiddenSize ?? _settings.Experts.HiddenSize;
            var latent = _latent is null ? 0 : 2 * _settings.Experts.HiddenSize;
            var shared = _parts.Shared?.Kept ?? new KeptElements(default, [], []);
            return shared with
            {
                Always = shared.Always + new TokenMemory(
                    hidden + latent + (_settings.ExpertsPerToken * Experts.First.OutFeatures) + (_parts.SharedGate is null ? 0 : hidden), Floats: 3 * _settings.Experts.Count, Widened: _settings.Router.InFloat32 && new Projection(_parts.Router.Layer).NeedsInput ? hidden : 0),
                Inputs = [.. shared.Inputs.Where(i => i.Width != hidden)],
                Working = [.. shared.Working, .. Working(hidden).Select(w => w - shared.Always)],
            };
        }
    }

    // While an expert's rows are computed: the gradients of the rows of all selections, and of these rows what each step gives. The busiest expert
    // has more than its share, about a quarter. When all are: the gradients of all rows, sorted and in the order of the tokens, and of the states.
    private IReadOnlyList<TokenMemory> Working(long hidden)
    {
        var (chosen, experts, own) = ((long)_settings.ExpertsPerToken, _settings.Experts.Count, _settings.Experts);
        var (narrow, inner, first) = ((long)own.HiddenSize, own.Inner.Size, Experts.First.OutFeatures);
        var isGated = ExpertActivation.IsGated(own);
        var ofRow = new TokenMemory(
            (2 * (narrow + inner + first)) + (isGated ? 0 : own.Clamp is null ? 3 * inner : 8 * inner),
            Widened: (isGated ? 3 * inner : inner) + (Experts.Matrices.Any(static m => m.Updates.Count > 0) ? first + (2 * narrow) : 0));
        long OfBusiest(long elements) => elements * Math.Min(4L * experts, 5 * chosen) / (4L * experts);
        var exact = _settings.Router.InFloat32 ? 2 * hidden : 0;
        return
        [
            new TokenMemory((chosen * narrow) + (2 * hidden) + OfBusiest(ofRow.Own), Widened: OfBusiest(ofRow.Widened)),
            new TokenMemory((2 * chosen * narrow) + (5 * hidden), Widened: exact),
        ];
    }

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var input = norm?.call(states) ?? states;
        var rows = input.reshape(-1, input.size(2));
        var (logits, weights, chosen) = _parts.Router.Route(rows, states.reshape(rows.shape));
        context.Routers?.Add(logits);
        var read = _latent is { Down: var down } ? down.call(rows) : rows;
        var mixed = ExpertProduct.Run(Experts, read, weights.to(rows.dtype), chosen, _settings.ScalesInput, wantsValues: _latent is not null || !context.OnlyForGradients);
        mixed = _latent is { Up: var up } ? up.call(mixed) : mixed;
        if (_parts.Shared is { } shared)
        {
            var output = shared.Run(input, null, _parts.SharedGate is null ? context : context.ForValues).view(rows.shape);
            mixed = mixed.Plus(_parts.SharedGate is { } gate ? gate.call(rows).sigmoid().mul(output) : output);
        }

        return mixed.view(states.shape).MoveToOuterDisposeScope();
    }
}
