using static TorchSharp.torch;

namespace OpenWeights.Tune.Extensions;

/// <summary>A micro-batch as an objective sees it. Its tensors live until the loss is computed.</summary>
public sealed class ObjectiveBatch
{
    private readonly Func<Tensor> _logProbs;
    private readonly Func<Tensor> _logits;
    private readonly Func<Tensor, Tensor> _sums;
    private Tensor? _ofTargets;
    private Tensor? _ofVocabulary;

    internal ObjectiveBatch(Func<Tensor> logProbs, Func<Tensor> logits, Func<Tensor, Tensor> sums, Tensor targets, Tensor rows, int count) =>
        (_logProbs, _logits, _sums, Targets, TargetRows, RowCount) = (logProbs, logits, sums, targets, rows, count);

    /// <summary>Number of rows. Of pairs, rows 0, 2, 4 and so on are the chosen answers, each followed by its rejected one.</summary>
    public int RowCount { get; }

    /// <summary>Token ids that are trained, those of all rows one after the other: [targets], int64.</summary>
    public Tensor Targets { get; }

    /// <summary>The row of each target: [targets], int64.</summary>
    public Tensor TargetRows { get; }

    /// <summary>Log-probability of each target: [targets], float32, with a graph. Little memory: logits exist for a few targets at a time.</summary>
    public Tensor LogProbs => _ofTargets ??= _logProbs();

    /// <summary>Logits at the place of each target: [targets, vocabulary], float32, with a graph. All of them are in memory at once.</summary>
    public Tensor Logits => _ofVocabulary ??= _logits();

    /// <summary>Sums values of targets over each row: [rows], float64.</summary>
    /// <param name="values">A value of each target: [targets].</param>
    public Tensor SumByRow(Tensor values) => _sums(values);
}
