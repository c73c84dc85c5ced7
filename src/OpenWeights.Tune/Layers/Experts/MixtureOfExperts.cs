using System.Runtime.InteropServices;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>
/// A mixture of experts: each token is processed by the few experts with the highest router scores, and their outputs are summed,
/// weighted by the router's softmax (in float32).
/// </summary>
public sealed class MixtureOfExperts : LayerPart
{
    [ComponentName(Name = "gate")]
    private readonly LinearLayer _router;

    [ComponentName(Name = "experts")]
    private readonly ModuleList<GatedFeedForward> _experts;

    [ComponentName(Name = "shared_expert")]
    private readonly GatedFeedForward? _shared;

    [ComponentName(Name = "shared_expert_gate")]
    private readonly LinearLayer? _sharedGate;

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
        var hidden = new Dimension("hidden_size", settings.Expert.HiddenSize);
        _router = LinearLayer.Take(weights, $"{name}.gate", new Dimension(settings.ExpertCountSetting, settings.ExpertCount), hidden, hasBias: false);
        _experts = new ModuleList<GatedFeedForward>(
            [.. Enumerable.Range(0, settings.ExpertCount).Select(i => new GatedFeedForward(settings.Expert, weights, $"{name}.experts.{i}"))]);
        if (settings.Shared is not null)
        {
            _shared = new GatedFeedForward(settings.Shared, weights, $"{name}.shared_expert");
            _sharedGate = LinearLayer.Take(weights, $"{name}.shared_expert_gate", new Dimension("1", 1), hidden, hasBias: false);
        }

        RegisterComponents();
    }

    // Gate and up of each expert that processes a token; the inputs and outputs of the selected experts, and the weighted sum.
    internal override KeptElements Kept
    {
        get
        {
            var (hidden, chosen) = ((long)_settings.Expert.HiddenSize, (long)_settings.ExpertsPerToken);
            var inner = (chosen * _settings.Expert.Inner.Size) + (_settings.Shared?.Inner.Size ?? 0);
            IReadOnlyList<GatedFeedForward> all = _shared is null ? [.. _experts] : [.. _experts, _shared];
            return new KeptElements(
                (2 * inner) + (3 * chosen * hidden) + hidden,
                [new KeptInput([.. all.SelectMany(static e => e.GateAndUp)], hidden, IsMadeAgain: true), new KeptInput([.. all.SelectMany(static e => e.Down)], inner, IsMadeAgain: true)]);
        }
    }

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var input = norm?.call(states) ?? states;
        var rows = input.view(-1, input.size(2));
        var scores = _router.call(rows);
        context.Routers?.Add(scores);
        var (weights, chosen) = scores.softmax(-1, float32).topk(_settings.ExpertsPerToken, -1);
        if (_settings.NormalizesWeights)
        {
            weights = weights.div(weights.sum(-1, keepdim: true));
        }

        var mixed = Combine(rows, weights.to(rows.dtype), chosen);
        if (_shared is not null)
        {
            mixed = mixed.Plus(_sharedGate!.call(rows).sigmoid().mul(_shared.Run(rows, null, wantsValues: true)));
        }

        return mixed.view(states.shape).MoveToOuterDisposeScope();
    }

    // Tokens are sorted by expert, so that each expert processes a contiguous range, and back.
    private Tensor Combine(Tensor states, Tensor weights, Tensor chosen)
    {
        using var scope = NewDisposeScope();
        var (counts, tokens, places) = Sort(MemoryMarshal.Cast<byte, long>(chosen.cpu().contiguous().bytes));
        var pieces = states.index_select(0, Devices.Send(tensor(tokens, [tokens.Length]), states.device)).split(counts, 0);
        var outputs = new List<Tensor>();
        for (var i = 0; i < counts.Length; i++)
        {
            // In training, an expert that no token selected gets zero gradients, as in the reference.
            if (counts[i] > 0 || is_grad_enabled())
            {
                outputs.Add(_experts[i].Run(pieces[i], null, wantsValues: true));
            }
        }

        var back = cat([.. outputs], 0).index_select(0, Devices.Send(tensor(places, [places.Length]), states.device));
        return back.view(states.size(0), _settings.ExpertsPerToken, states.size(1)).mul(weights.unsqueeze(-1)).sum(1).MoveToOuterDisposeScope();
    }

    // Number of selections per expert, the token of each selection in expert order, and the position of each selection in that order.
    private (long[] Counts, long[] Tokens, long[] Places) Sort(ReadOnlySpan<long> chosen)
    {
        var counts = new long[_experts.Count];
        foreach (var expert in chosen)
        {
            counts[expert]++;
        }

        var next = new long[counts.Length];
        for (var i = 1; i < next.Length; i++)
        {
            next[i] = next[i - 1] + counts[i - 1];
        }

        var (tokens, places) = (new long[chosen.Length], new long[chosen.Length]);
        for (var i = 0; i < chosen.Length; i++)
        {
            places[i] = next[chosen[i]]++;
            tokens[places[i]] = i / _settings.ExpertsPerToken;
        }

        return (counts, tokens, places);
    }
}
