using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Experts;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>The router of a mixture in a decode step: it chooses experts for single rows, and weights them as <see cref="Router"/> does.</summary>
internal sealed unsafe class DecodeRouter
{
    private readonly RouterSettings _settings;
    private readonly MatrixRows _weight;
    private readonly object _held;
    private readonly DecodeBuffer? _bias;
    private readonly DecodeBuffer? _correction;
    private readonly DecodeBuffer? _expertScale;
    private readonly int _experts;
    private readonly bool _rounds;
    private readonly DecodeBuffer _logits;
    private readonly float[] _choice;
    private readonly float[] _scores;

    private DecodeRouter(Router router, RowMatrix weight, object held, nint rows, bool rounds)
    {
        (_settings, _held, _experts, _rounds) = (router.Settings, held, (int)router.Layer.OutFeatures, rounds);
        _weight = new PlainRows(weight, _experts);
        _bias = router.Layer.Bias is { } bias ? DecodeBuffer.Of(bias) : null;
        _correction = router.Correction is { } correction ? DecodeBuffer.Of(correction) : null;
        _expertScale = router.ExpertScale is { } scale ? DecodeBuffer.Of(scale) : null;
        (_logits, _choice, _scores) = (new DecodeBuffer(rows * _experts), new float[_experts], new float[_experts]);
    }

    /// <summary>The router; null if it is not supported: with an adapter, an input of its own, or a choice that is more than the best scores.</summary>
    /// <param name="router">The router.</param>
    /// <param name="rows">Maximum number of rows.</param>
    /// <param name="dtype">The model's dtype.</param>
    internal static DecodeRouter? Of(Router router, nint rows, ScalarType dtype)
    {
        var weight = router.Layer.Slots[0].Current;
        return router is { Settings: { Scoring: not RouterScoring.SparseMixer, Input: null }, Layer: { Adapter: null, Quantized: null } } && weight is not null && weight.dtype == dtype && CpuKernel.Serves(weight)
            ? new DecodeRouter(router, RowMatrix.Of(weight), weight, rows, dtype == ScalarType.BFloat16 && !router.Settings.InFloat32)
            : null;
    }

    /// <summary>Number of parts that the logits are split into.</summary>
    internal int Parts(int threads) => Math.Min(threads, _experts / 4) is > 1 and var parts ? parts : 1;

    /// <summary>Computes a part of the logits.</summary>
    internal void Run(int part, int parts, in FloatRows states)
    {
        var (first, last) = ((nint)_experts * part / parts, (nint)_experts * (part + 1) / parts);
        _weight.Multiply(first, last, states, Logits(states.Count).From(first));
        GC.KeepAlive(_held);
    }

    /// <summary>Chooses experts for a row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="half">Whether the model is in bfloat16.</param>
    /// <param name="chosen">Receives the experts, the best first.</param>
    /// <param name="weights">Receives their weights.</param>
    internal void Choose(nint row, bool half, Span<int> chosen, Span<float> weights)
    {
        var logits = Logits(row + 1)[row];
        for (var i = 0; i < _experts; i++)
        {
            var sum = _rounds ? DecodeMath.Round(logits[i], half) : logits[i];
            logits[i] = _bias is null ? sum : DecodeMath.Round(sum + _bias.Start[i], _rounds);
        }

        var scores = Scores(new Span<float>(logits, _experts));
        Best(Allowed(scores), chosen);
        for (var i = 0; i < chosen.Length; i++)
        {
            weights[i] = scores[chosen[i]];
        }

        if (_settings.Scoring == RouterScoring.SoftmaxOfChosen)
        {
            Softmax(weights);
        }

        var factor = _settings.Normalizes ? 1 / Math.Max(Sum(weights) + (float)_settings.SumEpsilon, (float)_settings.LeastSum) : 1;
        for (var i = 0; i < chosen.Length; i++)
        {
            weights[i] = DecodeMath.Round(weights[i] * factor * (float)_settings.Scale * (_expertScale is null ? 1 : _expertScale.Start[chosen[i]]), half);
        }
    }

    private FloatRows Logits(nint rows) => new((nint)_logits.Start, _experts, rows);

    // What experts are weighted by.
    private Span<float> Scores(Span<float> logits)
    {
        var scores = _scores.AsSpan();
        logits.CopyTo(scores);
        if (_settings.Scoring == RouterScoring.Softmax)
        {
            Softmax(scores);
        }
        else if (_settings.Scoring == RouterScoring.Sigmoid)
        {
            foreach (ref var score in scores)
            {
                score = 1 / (1 + MathF.Exp(-score));
            }
        }

        return scores;
    }

    // What they are chosen by: scores with a correction, and 0 for those of groups that are not among the best.
    private Span<float> Allowed(Span<float> scores)
    {
        var choice = _choice.AsSpan();
        scores.CopyTo(choice);
        for (var i = 0; _correction is not null && i < choice.Length; i++)
        {
            choice[i] += _correction.Start[i];
        }

        if (_settings.Groups is not { } groups)
        {
            return choice;
        }

        var size = _experts / groups.Count;
        Span<float> sums = stackalloc float[groups.Count];
        Span<int> best = stackalloc int[Math.Max(groups.Scored, groups.Chosen)];
        for (var i = 0; i < groups.Count; i++)
        {
            var own = choice.Slice(i * size, size);
            Best(own, best[..groups.Scored]);
            foreach (var expert in best[..groups.Scored])
            {
                sums[i] += own[expert];
            }
        }

        Best(sums, best[..groups.Chosen]);
        for (var i = 0; i < groups.Count; i++)
        {
            if (!best[..groups.Chosen].Contains(i))
            {
                choice.Slice(i * size, size).Clear();
            }
        }

        return choice;
    }

    // The places of the largest numbers, the largest first; of equal ones the first.
    private static void Best(ReadOnlySpan<float> numbers, Span<int> places)
    {
        var found = 0;
        for (var i = 0; i < numbers.Length; i++)
        {
            if (found == places.Length && !(numbers[i] > numbers[places[^1]]))
            {
                continue;
            }

            var at = found < places.Length ? found++ : found - 1;
            for (; at > 0 && numbers[i] > numbers[places[at - 1]]; at--)
            {
                places[at] = places[at - 1];
            }

            places[at] = i;
        }
    }

    private static void Softmax(Span<float> numbers)
    {
        var (largest, sum) = (float.NegativeInfinity, 0f);
        foreach (var number in numbers)
        {
            largest = Math.Max(largest, number);
        }

        foreach (ref var number in numbers)
        {
            sum += number = MathF.Exp(number - largest);
        }

        foreach (ref var number in numbers)
        {
            number /= sum;
        }
    }

    private static float Sum(ReadOnlySpan<float> numbers)
    {
        var sum = 0f;
        foreach (var number in numbers)
        {
            sum += number;
        }

        return sum;
    }
}
