using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Embeddings;

/// <summary>
/// Embeddings: each anchor should be nearer to its positive than to the other texts of the step. Where a step has several micro-batches, the vectors of all are
/// computed first without a graph, then the loss and its gradient with respect to the vectors, and then each micro-batch once more with its part of that gradient
/// (GradCache, Gao et al., 2021), so that micro-batches give the gradient of one batch. Ranks compute the vectors of their micro-batches, and then have those of all.
/// </summary>
/// <param name="temperature">Divides the cosine similarities.</param>
/// <param name="pooling">Which hidden states become the vector.</param>
internal sealed class EmbeddingObjective(double temperature, EmbeddingPooling pooling) : IObjective, IRankedObjective
{
    private readonly List<long> _places = [];
    private readonly List<double> _similarities = [];
    private Ahead? _ahead;
    private int _next;
    private RankGroup _group = RankGroup.Alone;

    /// <inheritdoc/>
    public void Join(RankGroup ranks, Device device) => _group = ranks;

    /// <summary>Vectors that are computed twice must be the same.</summary>
    public bool UsesDropout => false;

    /// <inheritdoc/>
    public long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(batches);
        Clear();
        if (batches.Count > 1 || !_group.IsAlone)
        {
            _ahead = Ahead.Of(batches, rows => Vectors.Of(model, rows, pooling), temperature, _group, model);
            Note(_ahead.Loss);
        }

        return batches.Sum(static b => (long)b.Count);
    }

    /// <inheritdoc/>
    public Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var scope = NewDisposeScope();
        if (_ahead is not null && MetricMeans.IsOff)
        {
            // Only the passes are wanted.
            var filling = is_grad_enabled() ? Vectors.Of(model, rows, pooling) : null;
            return (filling is null ? tensor(0f, device: model.Device) : filling.Anchors.sum().add(filling.Others.sum())).MoveToOuterDisposeScope();
        }

        if (_ahead is not null)
        {
            var (loss, ofAnchors, ofOthers) = _ahead.Part(_next++, _group);
            return is_grad_enabled()
                ? Vectors.Of(model, rows, pooling).WithGradient(loss, ofAnchors, ofOthers).MoveToOuterDisposeScope()
                : tensor((float)loss, device: model.Device).MoveToOuterDisposeScope();
        }

        var vectors = Vectors.Of(model, rows, pooling);
        var alone = ContrastiveLoss.Of(vectors.Anchors, vectors.Others, Names([rows]), temperature);
        Note(alone);
        return vectors.WithGradient(alone.Losses.Sum(), alone.AnchorGradient, alone.CandidateGradient).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, double> End()
    {
        var metrics = new Dictionary<string, double>();
        if (_places.Count > 0)
        {
            metrics["recall@1"] = _places.Average(static r => r == 0 ? 1.0 : 0);
            metrics["mrr"] = _places.Average(static r => 1.0 / (r + 1));
            metrics["similarity/positive"] = _similarities.Average();
        }

        Clear();
        return metrics;
    }

    private static TextNames Names(IEnumerable<IReadOnlyList<TokenRow>> batches)
    {
        var names = new TextNames();
        foreach (var row in batches.SelectMany(static b => b))
        {
            names.Add(RelatedTexts.Of(row));
        }

        return names;
    }

    private void Note(ContrastiveLoss loss)
    {
        _places.AddRange(loss.Ranks);
        _similarities.AddRange(loss.Similarities);
    }

    private void Clear()
    {
        _ahead?.Dispose();
        (_ahead, _next) = (null, 0);
        _places.Clear();
        _similarities.Clear();
    }

    // The vectors of a micro-batch: its anchors, and its positives and then its negatives.
    private sealed record Vectors(Tensor Anchors, Tensor Others)
    {
        internal static Vectors Of(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, EmbeddingPooling pooling)
        {
            var texts = rows.Select(RelatedTexts.Of).ToList();
            return new Vectors(
                TextEmbeddings.Of(model, [.. texts.Select(static t => t[0])], pooling),
                TextEmbeddings.Of(model, [.. texts.Select(static t => t[1]), .. texts.SelectMany(static t => t.Skip(2))], pooling));
        }

        // A scalar with the value of the loss, and its gradient with respect to the vectors.
        internal Tensor WithGradient(double loss, Tensor ofAnchors, Tensor ofOthers)
        {
            var product = Anchors.mul(ofAnchors).sum().add(Others.mul(ofOthers).sum());
            return product.sub(product.detach()).add((float)loss);
        }
    }

    // The loss of a whole step, computed ahead of its micro-batches.
    private sealed class Ahead : IDisposable
    {
        private readonly List<(int Rows, int Negatives)> _sizes = [];

        internal ContrastiveLoss Loss { get; private init; } = null!;

        internal static Ahead Of(IReadOnlyList<IReadOnlyList<TokenRow>> batches, Func<IReadOnlyList<TokenRow>, Vectors> compute, double temperature, RankGroup ranks, CausalLanguageModel model)
        {
            var sizes = batches.Select(static b => (b.Count, b.Sum(static r => r.Documents.Length - 2))).ToList();
            using var scope = NewDisposeScope();
            var made = new Dictionary<IReadOnlyList<TokenRow>, Vectors>(ReferenceEqualityComparer.Instance);
            foreach (var (batch, isOwn) in ranks.Passes(batches, model))
            {
                using var inner = NewDisposeScope();
                var (anchors, others) = compute(batch);
                if (isOwn)
                {
                    made[batch] = new Vectors(anchors.MoveToOuterDisposeScope(), others.MoveToOuterDisposeScope());
                }
            }

            Tensor Zeros(long texts) => zeros([texts, model.Config.HiddenSize], float32, model.Device);
            var parts = batches.Zip(sizes, (batch, size) => made.GetValueOrDefault(batch) ?? new Vectors(Zeros(size.Item1), Zeros(size.Item1 + size.Item2))).ToList();
            if (!ranks.IsAlone)
            {
                // The vectors of other ranks are zeros here, and these there.
                foreach (var vectors in parts.SelectMany(static p => new[] { p.Anchors, p.Others }))
                {
                    ranks.Collectives.BeginAllReduceSum(vectors).Wait();
                }
            }

            var allAnchors = cat([.. parts.Select(static p => p.Anchors)]);
            Tensor[] positives = [.. parts.Zip(sizes, static (p, s) => p.Others.narrow(0, 0, s.Item1))];
            Tensor[] negatives = [.. parts.Zip(sizes, static (p, s) => p.Others.narrow(0, s.Item1, s.Item2))];
            var loss = ContrastiveLoss.Of(allAnchors, cat([.. positives, .. negatives]), Names(batches), temperature);
            return new Ahead(sizes) { Loss = loss with { AnchorGradient = loss.AnchorGradient.DetachFromDisposeScope(), CandidateGradient = loss.CandidateGradient.DetachFromDisposeScope() } };
        }

        private Ahead(List<(int Rows, int Negatives)> sizes) => _sizes = sizes;

        // The loss of a micro-batch's rows, and the gradients with respect to its vectors, in the current dispose scope.
        internal (double Loss, Tensor OfAnchors, Tensor OfOthers) Part(int next, RankGroup ranks)
        {
            var batch = Enumerable.Range(0, _sizes.Count).Where(i => ranks.Owns(i)).ElementAtOrDefault(next);
            var (rows, negatives) = _sizes[batch];
            var before = _sizes.Take(batch).Sum(static s => s.Rows);
            var negativesBefore = _sizes.Sum(static s => s.Rows) + _sizes.Take(batch).Sum(static s => s.Negatives);
            var others = cat([Loss.CandidateGradient.narrow(0, before, rows), Loss.CandidateGradient.narrow(0, negativesBefore, negatives)]);
            return (Loss.Losses.AsSpan(before, rows).ToArray().Sum(), Loss.AnchorGradient.narrow(0, before, rows), others);
        }

        public void Dispose()
        {
            Loss.AnchorGradient.Dispose();
            Loss.CandidateGradient.Dispose();
        }
    }
}

/// <summary>The texts of a row of related texts.</summary>
internal static class RelatedTexts
{
    /// <summary>The tokens of the anchor, the positive and the negatives.</summary>
    /// <param name="row">The row, whose documents they are.</param>
    internal static IReadOnlyList<int[]> Of(TokenRow row)
    {
        var (texts, start) = (new List<int[]>(), 0);
        foreach (var length in row.Documents)
        {
            texts.Add(row.Ids[start..(start + length)]);
            start += length;
        }

        return texts;
    }
}
