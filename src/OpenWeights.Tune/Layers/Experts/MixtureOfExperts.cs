using System.Runtime.InteropServices;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>
/// A mixture of experts: each token is read by the few feed-forwards whose router scores are highest, and their outputs are added,
/// weighted by the router's softmax (in float32).
/// </summary>
public sealed class MixtureOfExperts : nn.Module<Tensor, AttentionContext, Tensor>
{
    [ComponentName(Name = "gate")]
    private readonly LinearLayer _router;

    [ComponentName(Name = "experts")]
    private readonly ModuleList<GatedFeedForward> _experts;

    [ComponentName(Name = "shared_expert")]
    private readonly GatedFeedForward? _shared;

    [ComponentName(Name = "shared_expert_gate")]
    private readonly LinearLayer? _sharedGate;

    private readonly int _expertsPerToken;
    private readonly bool _normalizes;

    /// <summary>A mixture.</summary>
    /// <param name="settings">How an expert is made and computes.</param>
    /// <param name="mixture">The mixture's.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The module's name in the checkpoint.</param>
    public MixtureOfExperts(FeedForwardSettings settings, MixtureConfig mixture, IWeightSource weights, string name)
        : base(nameof(MixtureOfExperts))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(mixture);
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        (_expertsPerToken, _normalizes) = (mixture.ExpertsPerToken, mixture.NormalizesWeights);
        _router = LinearLayer.Take(weights, $"{name}.gate", new Dimension(mixture.ExpertCountSetting, mixture.ExpertCount), hidden, hasBias: false);
        _experts = new ModuleList<GatedFeedForward>(
            [.. Enumerable.Range(0, mixture.ExpertCount).Select(i => new GatedFeedForward(settings, weights, $"{name}.experts.{i}", mixture.IntermediateSize, mixture.ExpertNames))]);
        if (mixture.SharedIntermediateSize is { } inner)
        {
            _shared = new GatedFeedForward(settings, weights, $"{name}.shared_expert", inner, FeedForwardNames.Usual);
            _sharedGate = LinearLayer.Take(weights, $"{name}.shared_expert_gate", new Dimension("1", 1), hidden, hasBias: false);
        }

        RegisterComponents();
    }

    /// <summary>[batch, tokens, hidden] to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, AttentionContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        using var scope = NewDisposeScope();
        var states = input1.view(-1, input1.size(2));
        var scores = _router.call(states);
        input2.Routers?.Add(scores);
        var (weights, chosen) = scores.softmax(-1, float32).topk(_expertsPerToken, -1);
        if (_normalizes)
        {
            weights = weights.div(weights.sum(-1, keepdim: true));
        }

        var mixed = Combine(states, weights.to(states.dtype), chosen);
        if (_shared is not null)
        {
            mixed = mixed.Plus(_sharedGate!.call(states).sigmoid().mul(_shared.call(states)));
        }

        return mixed.view(input1.size(0), input1.size(1), input1.size(2)).MoveToOuterDisposeScope();
    }

    // Tokens are put in the order of their experts, so that each expert reads one piece, and back again.
    private Tensor Combine(Tensor states, Tensor weights, Tensor chosen)
    {
        using var scope = NewDisposeScope();
        var (counts, tokens, places) = Sort(MemoryMarshal.Cast<byte, long>(chosen.cpu().contiguous().bytes));
        var pieces = states.index_select(0, Devices.Send(tensor(tokens, [tokens.Length]), states.device)).split(counts, 0);
        var outputs = new List<Tensor>();
        for (var i = 0; i < counts.Length; i++)
        {
            // In training an expert that no token chose gets gradients too: they are zero, as the reference's are.
            if (counts[i] > 0 || is_grad_enabled())
            {
                outputs.Add(_experts[i].call(pieces[i]));
            }
        }

        var back = cat([.. outputs], 0).index_select(0, Devices.Send(tensor(places, [places.Length]), states.device));
        return back.view(states.size(0), _expertsPerToken, states.size(1)).mul(weights.unsqueeze(-1)).sum(1).MoveToOuterDisposeScope();
    }

    // How many choices fell on each expert, the token of each choice in the order of the experts, and where each choice lies in that order.
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
            tokens[places[i]] = i / _expertsPerToken;
        }

        return (counts, tokens, places);
    }
}
