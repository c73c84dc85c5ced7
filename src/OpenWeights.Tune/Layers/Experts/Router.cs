using OpenWeights.Tune.Kernels;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>A router: it chooses experts for each token, and weights them.</summary>
internal sealed class Router
{
    private readonly RouterSettings _settings;
    private readonly int _experts;
    private readonly int _perToken;
    private readonly Tensor? _correction;
    private readonly Parameter? _expertScale;
    private readonly (RmsNorm Norm, Parameter Scale)? _input;

    /// <summary>Creates a router, and registers its weights in the mixture.</summary>
    /// <param name="owner">The mixture.</param>
    /// <param name="settings">Settings of the router.</param>
    /// <param name="experts">Settings of the experts.</param>
    /// <param name="perToken">Number of experts per token.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the mixture in the checkpoint.</param>
    internal Router(nn.Module owner, RouterSettings settings, ExpertSettings experts, int perToken, IWeightSource weights, string name)
    {
        (_settings, _experts, _perToken) = (settings, experts.Count, perToken);
        var (count, hidden) = (new Dimension(experts.CountSetting, experts.Count), new Dimension("hidden_size", experts.HiddenSize));

        // A router is never quantized: it is small, and a changed choice of experts changes everything after it.
        var weight = weights.Take($"{name}.{settings.Name}.weight", InitialWeight.Normal, count, hidden);
        var bias = settings.HasBias ? weights.Take($"{name}.{settings.Name}.bias", InitialWeight.Zeros, count) : null;
        Layer = owner.Register(settings.Name, new LinearLayer(weight, bias, experts.Count, experts.HiddenSize) { IsRouter = !settings.IsLinear });
        if (settings.Correction is { } correction)
        {
            Dimension[] shape = settings.HasCorrectionRow ? [new Dimension("1", 1), count] : [count];
            _correction = owner.RegisterBuffer(correction, weights.TakeExact($"{name}.{correction}", InitialWeight.Zeros, shape));
        }

        if (settings.Input is { } input)
        {
            var taken = weights.Take($"{name}.{input.Scale}", InitialWeight.Ones, hidden);
            _input = (new RmsNorm(experts.HiddenSize, input.Norm with { HasWeight = false }), owner.RegisterParameter(input.Scale, taken));
        }

        if (settings.ExpertScale is { } scale)
        {
            _expertScale = owner.RegisterParameter(scale, weights.Take($"{name}.{scale}", InitialWeight.Ones, count));
        }
    }

    /// <summary>The layer that computes the logits.</summary>
    internal LinearLayer Layer { get; }

    /// <summary>Its settings.</summary>
    internal RouterSettings Settings => _settings;

    /// <summary>What is added to the scores for the choice alone; null for nothing.</summary>
    internal Tensor? Correction => _correction;

    /// <summary>A factor of each expert's weight; null for none.</summary>
    internal Tensor? ExpertScale => _expertScale;

    /// <summary>Chooses experts, in the current dispose scope.</summary>
    /// <param name="rows">Input of the experts, [tokens, hidden].</param>
    /// <param name="states">The same before its norm.</param>
    /// <returns>Logits [tokens, experts], weights [tokens, experts per token] in float32 and the chosen experts, int64.</returns>
    internal (Tensor Logits, Tensor Weights, Tensor Chosen) Route(Tensor rows, Tensor states)
    {
        rows = _input is null ? rows : Read(states);
        var logits = _settings.InFloat32 && rows.dtype != WideNumbers.Of(rows.dtype) ? Exact(rows.Widened()) : Layer.call(rows);
        var (weights, chosen) = _settings.Scoring == RouterScoring.SparseMixer ? Mix(logits.Widened()) : Choose(logits);
        if (_settings.Normalizes)
        {
            weights = weights.div(Sum(weights));
        }

        if (_settings.Scale != 1)
        {
            using Scalar scale = _settings.Scale;
            weights = weights.mul(scale);
        }

        return (logits, _expertScale is null ? weights : weights.mul(_expertScale.Widened().index_select(0, chosen.reshape(-1)).view(chosen.shape)), chosen);
    }

    private Tensor Read(Tensor states)
    {
        using var scope = NewDisposeScope();
        using Scalar factor = 1 / Math.Sqrt(states.size(-1));
        return _input!.Value.Norm.call(states).mul(_input.Value.Scale).mul(factor).MoveToOuterDisposeScope();
    }

    private Tensor Exact(Tensor rows)
    {
        var output = nn.functional.linear(rows, Layer.Weight.Widened(), Layer.Bias?.Widened());
        return Layer.Adapter?.Apply(Layer, rows, output) ?? output;
    }

    private (Tensor Weights, Tensor Chosen) Choose(Tensor logits)
    {
        if (_settings.Scoring == RouterScoring.SoftmaxOfChosen)
        {
            var (best, experts) = logits.topk(_perToken, -1);
            return (best.softmax(-1, WideNumbers.Of(best.dtype)), experts);
        }

        var scores = _settings.Scoring == RouterScoring.Sigmoid ? logits.Widened().sigmoid() : logits.softmax(-1, WideNumbers.Of(logits.dtype));
        if (_correction is null && _settings.Groups is null)
        {
            return scores.topk(_perToken, -1);
        }

        using var choice = Allowed(_correction is null ? scores.detach() : scores.detach().Plus(_correction.Widened().view(-1)));
        var (_, chosen) = choice.topk(_perToken, -1);
        return (scores.gather(-1, chosen), chosen);
    }

    // Scores with 0 in place of those of experts whose group is not among the best, as in the reference.
    private Tensor Allowed(Tensor scores)
    {
        if (_settings.Groups is not { } groups)
        {
            return scores.alias();
        }

        using var scope = NewDisposeScope();
        var grouped = scores.view(-1, groups.Count, _experts / groups.Count);
        var (best, _) = grouped.topk(groups.Scored, -1);
        var (_, chosen) = best.sum(-1).topk(groups.Chosen, -1);
        var mask = zeros([scores.size(0), groups.Count], scores.dtype, scores.device).scatter_(1, chosen, ones_like(chosen, scores.dtype));
        return grouped.mul(mask.unsqueeze(-1)).view(scores.shape).MoveToOuterDisposeScope();
    }

    private Tensor Sum(Tensor weights)
    {
        var sum = weights.sum(-1, keepdim: true);
        if (_settings.SumEpsilon > 0)
        {
            using Scalar epsilon = _settings.SumEpsilon;
            sum = sum.add(epsilon, Scalars.One);
        }

        if (_settings.LeastSum > 0)
        {
            using Scalar least = _settings.LeastSum;
            sum = sum.clamp_min(least);
        }

        return sum;
    }

    // The best expert and the best of the others, each weighted by the softmax over those whose logits are within the tolerance.
    private (Tensor Weights, Tensor Chosen) Mix(Tensor logits)
    {
        var left = logits;
        var (weights, chosen) = (new List<Tensor>(), new List<Tensor>());
        for (var i = 0; i < _perToken; i++)
        {
            var (most, expert) = left.detach().max(-1, keepdim: true);
            using Scalar tolerance = 2 * _settings.TieTolerance;
            using Scalar none = double.NegativeInfinity;
            var size = logits.detach().abs();
            var distant = most.sub(logits.detach()).div(where(size.gt(most), size, most)).gt(tolerance);
            weights.Add(left.masked_fill(distant, none).softmax(-1).gather(-1, expert));
            chosen.Add(expert);
            var taken = zeros_like(logits).scatter_(-1, expert, ones_like(expert, logits.dtype)).gt(Scalars.Zero);
            left = left.masked_fill(taken, none);
        }

        return (cat([.. weights], -1), cat([.. chosen], -1));
    }
}
