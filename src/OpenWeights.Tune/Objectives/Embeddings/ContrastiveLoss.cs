using System.Runtime.InteropServices;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Embeddings;

/// <summary>
/// InfoNCE (van den Oord et al., 2018) as sentence-transformers' MultipleNegativesRankingLoss: for each anchor the cross entropy of its positive among
/// all candidates, by cosine similarity over temperature. Candidates are the positives of all anchors and then the negatives. Some anchors are compared at a time, so
/// that memory does not grow with the square of their number, and gradients are computed with the loss.
/// </summary>
/// <param name="Losses">Loss of each anchor.</param>
/// <param name="Ranks">Number of candidates that are more similar to each anchor than its positive.</param>
/// <param name="Similarities">Cosine similarity of each anchor and its positive.</param>
/// <param name="AnchorGradient">Gradient of the summed loss with respect to the anchors, [anchors, width], float32.</param>
/// <param name="CandidateGradient">The same with respect to the candidates, [candidates, width].</param>
internal sealed record ContrastiveLoss(double[] Losses, long[] Ranks, double[] Similarities, Tensor AnchorGradient, Tensor CandidateGradient)
{
    private const long ChunkScores = 1 << 22;

    /// <summary>Computes the loss; the gradients are in the caller's dispose scope.</summary>
    /// <param name="anchors">Vectors of the anchors, [anchors, width], of length 1.</param>
    /// <param name="candidates">Vectors of the candidates, [candidates, width], of length 1; the first are the anchors' positives, in their order.</param>
    /// <param name="names">A number for each text, equal for equal texts.</param>
    /// <param name="temperature">Divides the similarities.</param>
    internal static ContrastiveLoss Of(Tensor anchors, Tensor candidates, TextNames names, double temperature)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();

        // A CPU computes doubles well.
        var type = anchors.device.type == DeviceType.CPU ? float64 : float32;
        var (a, c) = (anchors.detach().to(type), candidates.detach().to(type));
        var (ofAnchors, ofCandidates) = (zeros_like(a), zeros_like(c));
        var texts = names.On(a.device);
        var (losses, ranks, similarities) = (new List<double>(), new List<long>(), new List<double>());
        var rows = (int)Math.Max(1, ChunkScores / c.size(0));
        for (var start = 0; start < (int)a.size(0); start += rows)
        {
            using var inner = NewDisposeScope();
            var count = (int)Math.Min(rows, a.size(0) - start);
            var block = a.narrow(0, start, count);
            var (own, hidden) = texts.Masks(start, count);
            using Scalar sharpness = 1 / temperature;
            using Scalar nowhere = double.NegativeInfinity;
            var scores = block.mm(c.t()).mul(sharpness).masked_fill(hidden, nowhere);
            var positives = scores.masked_select(own);
            var normalizer = scores.logsumexp(1);
            var weights = scores.sub(normalizer.unsqueeze(1)).exp().sub(own.to(type)).mul(sharpness);
            _ = ofAnchors.narrow(0, start, count).copy_(weights.mm(c));
            _ = ofCandidates.PlusInPlace(weights.t().mm(block));
            losses.AddRange(Doubles(normalizer.sub(positives)));
            similarities.AddRange(Doubles(positives).Select(p => p * temperature));
            ranks.AddRange(Doubles(scores.gt(positives.unsqueeze(1)).sum([1L])).Select(static r => (long)r));
        }

        return new ContrastiveLoss([.. losses], [.. ranks], [.. similarities], ofAnchors.to(float32).MoveToOuterDisposeScope(), ofCandidates.to(float32).MoveToOuterDisposeScope());
    }

    private static double[] Doubles(Tensor values) => MemoryMarshal.Cast<byte, double>(values.to(float64).cpu().contiguous().bytes).ToArray();
}

/// <summary>Which texts of a batch are equal, so that none is taken for a negative of itself.</summary>
internal sealed class TextNames
{
    private readonly Dictionary<string, long> _known = [];
    private readonly List<long> _anchors = [];
    private readonly List<long> _positives = [];
    private readonly List<long> _negatives = [];

    /// <summary>Adds the texts of a row: its anchor, its positive and its negatives.</summary>
    /// <param name="texts">The tokens of each.</param>
    internal void Add(IReadOnlyList<int[]> texts)
    {
        _anchors.Add(Name(texts[0]));
        _positives.Add(Name(texts[1]));
        _negatives.AddRange(texts.Skip(2).Select(Name));
    }

    /// <summary>The same numbers on a device; in the current dispose scope.</summary>
    internal OnDevice On(Device device) => new(
        tensor(_anchors.ToArray(), device: device), tensor(_positives.Concat(_negatives).ToArray(), device: device),
        tensor(_anchors.Concat(Enumerable.Repeat(-1L, _negatives.Count)).ToArray(), device: device));

    private long Name(int[] text)
    {
        var key = string.Join(',', text);
        if (!_known.TryGetValue(key, out var name))
        {
            _known.Add(key, name = _known.Count);
        }

        return name;
    }

    /// <summary>The numbers of the texts.</summary>
    /// <param name="Anchors">Of the anchors, [anchors].</param>
    /// <param name="Candidates">Of the candidates, [candidates].</param>
    /// <param name="Askers">Of the anchor that each candidate is the positive of, [candidates]; -1 for negatives.</param>
    internal sealed record OnDevice(Tensor Anchors, Tensor Candidates, Tensor Askers)
    {
        /// <summary>For some anchors, which candidate is their own positive, and which are no negatives: equal to the positive or the anchor, or the positive of an equal anchor.</summary>
        /// <param name="start">The first anchor.</param>
        /// <param name="count">Number of anchors.</param>
        internal (Tensor Own, Tensor Hidden) Masks(int start, int count)
        {
            using var scope = NewDisposeScope();
            var device = Anchors.device;
            var own = arange(Candidates.size(0), int64, device).unsqueeze(0).eq(arange(start, start + count, int64, device).unsqueeze(1));
            var anchors = Anchors.narrow(0, start, count).unsqueeze(1);
            var same = Candidates.unsqueeze(0).eq(Candidates.narrow(0, start, count).unsqueeze(1))
                .logical_or(Candidates.unsqueeze(0).eq(anchors)).logical_or(Askers.unsqueeze(0).eq(anchors));
            return (own.MoveToOuterDisposeScope(), same.logical_and(own.logical_not()).MoveToOuterDisposeScope());
        }
    }
}
