using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>The first rows of a run, in its micro-batches, for starts that are computed from training data.</summary>
internal sealed class TrainingStartData : StartData
{
    private readonly IReadOnlyList<IReadOnlyList<TokenRow>> _batches;
    // Of preferences too, the gradient is that of the answers' cross entropy.
    private readonly SupervisedObjective _objective = new();
    private readonly Device _device;

    /// <summary>Takes the rows.</summary>
    /// <param name="rows">The run's rows.</param>
    /// <param name="count">Number of rows to take, as far as an epoch has them.</param>
    /// <param name="device">The device.</param>
    internal TrainingStartData(BatchSampler rows, int count, Device device)
    {
        _device = device;
        var (batches, taken) = (new List<IReadOnlyList<TokenRow>>(), 0);
        for (var step = 0L; step < rows.StepsPerEpoch && taken < count; step++)
        {
            foreach (var batch in rows.Of(step).TakeWhile(_ => taken < count))
            {
                IReadOnlyList<TokenRow> some = [.. batch.Take(count - taken)];
                taken += some.Count;
                if (some.Any(static r => r.CountTargets() > 0))
                {
                    batches.Add(some);
                }
            }
        }

        _batches = batches;
    }

    /// <inheritdoc/>
    public override int Count => _batches.Count;

    /// <inheritdoc/>
    public override StartBatch Batch(int index)
    {
        var rows = _batches[index];
        var batch = TokenBatch.Of(rows, padId: 0, _device);
        var width = batch.Input.InputIds.size(1);
        var places = rows.SelectMany((row, r) => Enumerable.Range(0, row.Ids.Length).Select(i => (Place: (r * width) + i, IsLabelled: row.Labels[i] != TokenRow.Ignored))).ToList();
        Tensor OnDevice(IEnumerable<long> values)
        {
            var all = values.ToArray();
            return Devices.Send(tensor(all, [all.Length]), _device);
        }

        return new StartBatch
        {
            Input = batch.Input,
            Tokens = OnDevice(places.Select(static p => p.Place)),
            Labelled = OnDevice(places.Where(static p => p.IsLabelled).Select(static p => p.Place)),
            Rows = [.. rows.Select((row, r) => (r * width, (long)row.Ids.Length))],
            Loss = model =>
            {
                using Scalar targets = batch.TargetCount;
                return _objective.LossSum(model, batch).div(targets);
            },
        };
    }
}
