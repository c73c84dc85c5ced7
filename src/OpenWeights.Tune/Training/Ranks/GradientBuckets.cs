using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// Sums gradients over ranks, a bucket at a time. In the backward pass of a rank's last micro-batch, a bucket is sent as soon as the layers of its
/// parameters are done. All ranks send the same buckets in the same order, whatever gradients they have. Sums are float32.
/// </summary>
/// <param name="ranks">The ranks.</param>
/// <param name="parameters">The trained parameters.</param>
/// <param name="buckets">Their layout.</param>
/// <param name="scatters">Whether a rank gets only the sums of its own part.</param>
internal sealed class GradientBuckets(RankGroup ranks, IReadOnlyList<TrainedParameter> parameters, IReadOnlyList<GradientBucket> buckets, bool scatters) : IDisposable
{
    // A larger gradient that lies in memory as it is sent is not copied.
    private const long LeastDirect = 1 << 18;

    private readonly List<(Tensor Values, Tensor Own, IPendingCollective Pending)> _sent = [];
    private readonly bool[] _had = new bool[parameters.Count];

    /// <summary>Whether gradients of layers that are done are complete.</summary>
    internal bool IsLast { get; set; }

    /// <summary>The layout.</summary>
    internal IReadOnlyList<GradientBucket> Layout => buckets;

    /// <summary>Whether this rank had a gradient of each parameter.</summary>
    internal IReadOnlyList<bool> Had => _had;

    /// <summary>Takes note that the backward pass of a layer is done.</summary>
    /// <param name="layer">Index of the layer.</param>
    internal void Passed(int layer)
    {
        while (IsLast && _sent.Count < buckets.Count && buckets[_sent.Count].Layer >= Math.Max(0, layer))
        {
            Send(buckets[_sent.Count]);
        }
    }

    /// <summary>Sends what was not sent yet, and waits for all sums.</summary>
    internal void Finish()
    {
        IsLast = false;
        while (_sent.Count < buckets.Count)
        {
            Send(buckets[_sent.Count]);
        }

        _sent.ForEach(static s => s.Pending.Wait());
    }

    /// <summary>The summed gradient of a piece, flat: a view in the current dispose scope.</summary>
    /// <param name="bucket">Number of its bucket.</param>
    /// <param name="piece">The piece; of this rank where sums are scattered.</param>
    internal Tensor Sum(int bucket, ParameterPiece piece) =>
        scatters ? _sent[bucket].Own.narrow(0, piece.Offset - (piece.Rank * buckets[bucket].PartLength), piece.Count) : _sent[bucket].Values.narrow(0, piece.Offset, piece.Count);

    /// <summary>The summed gradient of a whole parameter, flat, where sums are not scattered: a view in the current dispose scope.</summary>
    /// <param name="bucket">Number of its bucket.</param>
    /// <param name="parameter">Index of the parameter.</param>
    internal Tensor Sum(int bucket, int parameter) => _sent[bucket].Values.narrow(0, buckets[bucket].Pieces.First(p => p.Parameter == parameter).Offset, parameters[parameter].Parameter.numel());

    /// <summary>Frees the sums.</summary>
    internal void Drop()
    {
        foreach (var (values, own, _) in _sent)
        {
            values.Dispose();
            own.Dispose();
        }

        _sent.Clear();
        Array.Clear(_had);
    }

    /// <inheritdoc/>
    public void Dispose() => Drop();

    // In a backward pass, or after it.
    private void Send(GradientBucket bucket)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var (first, length) = (parameters[bucket.Parameters[0]].Parameter, bucket.PartLength * ranks.Size);
        var values = Direct(bucket, length);
        if (values is null)
        {
            values = empty([length], float32, first.device);
            foreach (var index in bucket.Parameters)
            {
                var parameter = parameters[index].Parameter;
                var place = values.narrow(0, bucket.Pieces.First(p => p.Parameter == index).Offset, parameter.numel());
                _had[index] = parameter.grad is { } gradient && place.copy_(gradient.reshape(-1)) is not null;
                if (!_had[index])
                {
                    _ = place.zero_();
                }

                // What a later layer adds is noticed at the end.
                parameter.grad = null;
            }
        }

        if (!scatters && bucket is { Layer: < 0, Parameters: [var only] } && parameters[only].Parameter.shape is [var rows, _] && length >= LeastDirect && length == parameters[only].Parameter.numel())
        {
            var touched = GradientRows.BeginSum(ranks, values.view(rows, -1));
            _sent.Add((values.DetachFromDisposeScope(), values.alias().DetachFromDisposeScope(), touched));
            return;
        }

        var own = scatters ? empty([bucket.PartLength], float32, first.device) : values.alias();
        var pending = scatters ? ranks.Collectives.BeginReduceScatterSum(values, own) : ranks.Collectives.BeginAllReduceSum(values);
        _sent.Add((values.DetachFromDisposeScope(), own.DetachFromDisposeScope(), pending));
    }

    private Tensor? Direct(GradientBucket bucket, long length)
    {
        if (bucket.Parameters is not [var index] || parameters[index].Parameter is var parameter && (parameter.numel() != length || length < LeastDirect)
            || parameters[index].Parameter.grad is not { } gradient || gradient.dtype != float32 || !gradient.is_contiguous())
        {
            return null;
        }

        _had[index] = true;
        var values = gradient.view(-1);
        parameters[index].Parameter.grad = null;
        return values;
    }
}
