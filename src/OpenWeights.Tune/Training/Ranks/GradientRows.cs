using OpenWeights.Tune.Distributed;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// The sum of gradients of an embedding over ranks. A step has some of the vocabulary's tokens, and the gradients of all other rows are zero on every rank: only rows
/// that some rank has are sent, and the sums are the same.
/// </summary>
internal sealed class GradientRows : IPendingCollective, IDisposable
{
    // A share of the rows from which all are sent.
    private const double Most = 0.5;

    private readonly IPendingCollective _pending;
    private readonly Tensor _values;
    private readonly Tensor _rows;
    private readonly Tensor _sent;

    private GradientRows(IPendingCollective pending, Tensor values, Tensor rows, Tensor sent) => (_pending, _values, _rows, _sent) = (pending, values, rows, sent);

    /// <summary>Begins to sum a gradient in place; which rows are sent is agreed on at once.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="values">The gradient, [rows, columns], float32.</param>
    internal static IPendingCollective BeginSum(RankGroup ranks, Tensor values)
    {
        using var scope = NewDisposeScope();
        using Scalar zero = 0;
        var has = values.eq(zero).all(1).logical_not().to(float32);
        ranks.Collectives.BeginAllReduceSum(has).Wait();
        var rows = has.nonzero().view(-1);
        if (rows.numel() > Most * values.size(0))
        {
            return ranks.Collectives.BeginAllReduceSum(values);
        }

        var sent = values.index_select(0, rows);
        return new GradientRows(ranks.Collectives.BeginAllReduceSum(sent), values.alias().DetachFromDisposeScope(), rows.DetachFromDisposeScope(), sent.DetachFromDisposeScope());
    }

    /// <inheritdoc/>
    public void Wait()
    {
        _pending.Wait();
        using var nothing = no_grad();
        _ = _values.index_copy_(0, _rows, _sent);
        Dispose();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _values.Dispose();
        _rows.Dispose();
        _sent.Dispose();
    }
}
