using System.Runtime.InteropServices;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Labels;

/// <summary>
/// Classification of texts, one class each: cross entropy of the scores, as transformers' models ...ForSequenceClassification compute it. The loss is
/// a mean over the rows of a step.
/// </summary>
/// <param name="labelSmoothing">The fraction of a class's probability that is spread evenly over all classes.</param>
internal sealed class ClassificationObjective(double labelSmoothing) : IObjective, IRankedObjective
{
    private readonly List<(int[] Expected, Tensor Predicted)> _predictions = [];
    private RankGroup _ranks = RankGroup.Alone;
    private Device _device = CPU;

    /// <inheritdoc/>
    public void Join(RankGroup ranks, Device device) => (_ranks, _device) = (ranks, device);

    /// <inheritdoc/>
    public long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        Clear();
        return batches.Sum(static b => (long)b.Count);
    }

    /// <inheritdoc/>
    public Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var scope = NewDisposeScope();
        var scores = LabelScores.Of(model, rows);
        int[] expected = [.. rows.Select(row => Index(model.Config.Labels!, row))];
        if (!MetricMeans.IsOff)
        {
            _predictions.Add((expected, scores.detach().argmax(1).DetachFromDisposeScope()));
        }

        var targets = tensor(Array.ConvertAll(expected, static i => (long)i), device: model.Device);
        return nn.functional.cross_entropy(scores, targets, reduction: nn.Reduction.Sum, label_smoothing: labelSmoothing).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, double> End()
    {
        var pairs = new List<(int Expected, long Predicted)>();
        foreach (var (expected, tensor) in _predictions)
        {
            using var here = tensor.cpu();
            pairs.AddRange(expected.Zip(MemoryMarshal.Cast<byte, long>(here.bytes).ToArray()));
        }

        Clear();
        if (!_ranks.IsAlone)
        {
            long[] flat = [.. pairs.SelectMany(static p => new[] { p.Expected, p.Predicted })];
            pairs = [.. _ranks.Gather(MemoryMarshal.AsBytes<long>(flat).ToArray(), _device).SelectMany(static b => MemoryMarshal.Cast<byte, long>(b).ToArray().Chunk(2)).Select(static p => ((int)p[0], p[1]))];
        }

        return pairs.Count == 0 ? new Dictionary<string, double>() : new Dictionary<string, double>
        {
            ["accuracy"] = pairs.Average(static p => p.Expected == p.Predicted ? 1.0 : 0),
            ["f1"] = MacroF1(pairs),
        };
    }

    /// <summary>The mean of the classes' F1, 2 x hits / (expected + predicted), over the classes that occur, as scikit-learn's macro average.</summary>
    /// <param name="pairs">The class of each row, and the predicted one.</param>
    internal static double MacroF1(IReadOnlyList<(int Expected, long Predicted)> pairs) =>
        pairs.SelectMany(static p => new[] { p.Expected, p.Predicted }).Distinct().Average(c =>
            2.0 * pairs.Count(p => p.Expected == c && p.Predicted == c) / (pairs.Count(p => p.Expected == c) + pairs.Count(p => p.Predicted == c)));

    private static int Index(LabelHead labels, TokenRow row) => row.Label is { } label && labels.IndexOf(label) is >= 0 and var index ? index
        : throw new InvalidDataException($"{row.Source}: the class '{row.Label}' is none of the model's {labels.Names.Count} labels: {string.Join(", ", labels.Names.Take(20))}.");

    private void Clear()
    {
        _predictions.ForEach(static p => p.Predicted.Dispose());
        _predictions.Clear();
    }
}
