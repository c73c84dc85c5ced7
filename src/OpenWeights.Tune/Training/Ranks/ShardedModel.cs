using System.Diagnostics;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// Ranks that share out gradients and optimizer state by layers (ZeRO-2), and perhaps the weights too (ZeRO-3). The gradients of a layer are summed when its backward pass is
/// done, in every micro-batch, and each rank keeps its part: those of the head when the last layer's begins, and those of the embedding at the end of the pass.
/// </summary>
internal sealed class ShardedModel : IShardStrategy, ILayerWeights
{
    private readonly CausalLanguageModel _model;
    private readonly IReadOnlyList<TrainedParameter> _parameters;
    private readonly RankGroup _ranks;
    private readonly SharedWeights? _weights;
    private readonly List<UnitGradients> _units;
    private readonly List<UnitGradients>[] _ofLayers;
    private readonly List<UnitGradients> _ofHead;
    private readonly List<UnitGradients> _others;
    private readonly IOptimizer _updates;
    private readonly PieceOptimizer? _optimizer;
    private double _exposed;
    private bool _hasBegun;
    private bool[] _present = [];

    /// <summary>Creates the strategy.</summary>
    /// <param name="trained">The model.</param>
    /// <param name="ranks">The ranks.</param>
    /// <param name="training">Settings of the optimizer.</param>
    /// <param name="sharesWeights">Whether the weights are shared out.</param>
    internal ShardedModel(ITrainedModel trained, RankGroup ranks, TrainingSection training, bool sharesWeights)
    {
        (_model, _parameters, _ranks) = (trained.Model, trained.Parameters, ranks);
        _weights = sharesWeights ? _model.Stack.LayerWeights as SharedWeights ?? new SharedWeights(_model, ranks) : null;
        _weights?.Show(null);
        var homes = _weights?.Homes ?? new Dictionary<Tensor, (FlatTensors, int)>();
        var places = _parameters.Select((p, i) => (Index: i, Trained: p)).GroupBy(p => homes.TryGetValue(p.Trained.Parameter, out var home)
            ? (home.Place, p.Trained.Parameter.dtype, Flat: (FlatTensors?)home.Flat) : (Place: GradientLayout.LayerOf(p.Trained.Name, _model.Config), p.Trained.Parameter.dtype, Flat: (FlatTensors?)null));
        _units = [];
        _ofLayers = [.. Enumerable.Range(0, _model.LayerCount).Select(static _ => new List<UnitGradients>())];
        (_ofHead, _others) = ([], []);
        var owners = RankRules.NeedsWholeMatrices(training.Optimizer) ? OwnedParameters.Deal(_parameters, ranks.Size) : null;
        foreach (var place in places)
        {
            var (layer, all, flat) = (place.Key.Place, place.ToList(), place.Key.Flat);
            if (flat is not null && !flat.Tensors.SequenceEqual(all.Select(static p => (Tensor)p.Trained.Parameter), ReferenceEqualityComparer.Instance))
            {
                throw new ConfigException([new ConfigProblem("", "parallel.shard", "parameters shares out layers that are trained whole or not at all; set it to gradients, or training.trainable: all and training.first_trained_layer: 0.")]);
            }

            var unit = new UnitGradients(ranks, all, flat, owners is null ? null : [.. all.Select(p => owners[p.Index])]);
            _units.Add(unit);
            (layer < 0 ? _others : layer < _ofLayers.Length ? _ofLayers[layer] : _ofHead).Add(unit);
        }

        _updates = OptimizerKinds.Create(Averaged, training);
        _optimizer = owners is null ? new PieceOptimizer(_updates, _units, ranks) : null;
        if (_weights is not null)
        {
            _weights.Passed = SendLayer;
        }

        _model.Stack.LayerWeights = this;
    }

    /// <inheritdoc/>
    public IOptimizer Optimizer => _optimizer ?? _updates;

    /// <inheritdoc/>
    public bool NeedsEqualRounds => true;

    /// <summary>Whether every rank gets all gradients after a step: for an adapter that judges its parts by them.</summary>
    internal bool GivesWholeGradients { get; init; }

    /// <summary>Bytes of shared weights, and of gradients, that are in this rank's memory.</summary>
    internal (long Weights, long Gradients) Bytes => (_weights?.Bytes ?? 0, _units.Sum(static u => u.Bytes));

    /// <inheritdoc/>
    public double TakeExposedSeconds()
    {
        var taken = _exposed;
        _exposed = 0;
        return taken;
    }

    /// <inheritdoc/>
    public void Enter(int layer, bool isBackward)
    {
        Timed(() => _weights?.Enter(layer, isBackward));
        if (isBackward && layer == _ofLayers.Length - 1)
        {
            _ofHead.ForEach(static u => u.Send());
        }
    }

    /// <inheritdoc/>
    public void Leave(int layer, bool isBackward, bool returns)
    {
        _ranks.Activity?.Progressed();
        if (layer == 0 && !isBackward)
        {
            // What the last micro-batch sent at its end.
            Timed(() =>
            {
                _others.ForEach(static u => u.Take());
                _ofLayers[0].ForEach(static u => u.Take());
            });
        }

        if (_weights is not null)
        {
            _weights.Leave(layer, isBackward, returns);
        }
        else if (isBackward)
        {
            SendLayer(layer);
        }
    }

    /// <inheritdoc/>
    public bool HasAll => _weights is null;

    /// <inheritdoc/>
    public void BeginOwn() => _weights?.BeginOwn();

    /// <inheritdoc/>
    public void TakePart() => _weights?.TakePart();

    /// <inheritdoc/>
    public void Show(string? name, bool writes = false) => _weights?.Show(name, writes);

    /// <inheritdoc/>
    public void Made(nn.Module part) => throw new NotSupportedException("the model is made already");

    /// <inheritdoc/>
    public void Complete(CausalLanguageModel model) => throw new NotSupportedException("the model is complete already");

    /// <inheritdoc/>
    public void Lead(Action work)
    {
        if (_weights is null)
        {
            work();
        }
        else
        {
            _weights.Lead(work);
        }
    }

    /// <inheritdoc/>
    public void Follow() => _weights?.Follow();

    /// <inheritdoc/>
    public void Accumulating(bool isLast)
    {
        if (_hasBegun)
        {
            _others.ForEach(static u => u.Send());
        }

        _hasBegun = true;
    }

    /// <inheritdoc/>
    public void Accumulated() => Timed(() =>
    {
        _hasBegun = false;
        _others.ForEach(static u => u.Send());
        _units.ForEach(static u => u.Take());
        _weights?.FreeAll();
        var had = new double[_parameters.Count];
        foreach (var unit in _units)
        {
            for (var i = 0; i < unit.Trained.Count; i++)
            {
                had[unit.Trained[i].Index] = unit.Had[i] ? 1 : 0;
            }
        }

        _present = [.. _ranks.Add(had, _model.Device).Select(static h => h > 0)];
        _units.ForEach(u => u.Give(_present));
    });

    /// <inheritdoc/>
    public (double Loss, double Norm) Measure(IReadOnlyList<Tensor> losses)
    {
        var (loss, square) = Added(losses.Sum(static l => l.ToDouble()));
        return (loss, double.IsFinite(loss) ? Math.Sqrt(square) : double.NaN);
    }

    /// <inheritdoc/>
    public double ClipValues(double largest, bool measures)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using Scalar least = -largest, most = largest;
        foreach (var gradient in Given())
        {
            _ = gradient.clamp_(least, most);
        }

        return measures ? Math.Sqrt(Added(0).Square) : 0;
    }

    /// <inheritdoc/>
    public void Step(double rate, double factor)
    {
        _updates.Step(rate, factor);
        Timed(() => _units.ForEach(static u => u.Spread()));
        if (GivesWholeGradients)
        {
            Timed(() => _units.ForEach(u => u.GiveWhole(_present)));
        }
    }

    /// <inheritdoc/>
    public void Drop()
    {
        _hasBegun = false;
        _units.ForEach(static u => u.Drop());
        _weights?.FreeAll();
    }

    /// <inheritdoc/>
    public IReadOnlyList<TensorToWrite> State() =>
        _optimizer?.Saved(_parameters.ToDictionary(static p => p.Name, static p => p.Parameter.shape)) ?? new StateOfRanks(_ranks, _parameters).Joined(_updates.State);

    /// <inheritdoc/>
    public void FollowState() => SafetensorsWriter.Drop(State());

    /// <inheritdoc/>
    public IReadOnlyList<TrainedParameter> Averaged => [.. Pieces.Select(static p => p.Trained)];

    /// <inheritdoc/>
    public IOptimizer AveragedBy => _updates;

    /// <inheritdoc/>
    public void Changed()
    {
        _weights?.FreeAll();
        _units.ForEach(static u => u.Spread());
    }

    /// <inheritdoc/>
    public IReadOnlyList<TensorToWrite> AverageToWrite(WeightAverage average)
    {
        var own = Pieces.Zip(average.State).ToDictionary(static p => p.First.Of, static p => p.Second.State);
        return [.. _units.SelectMany(unit => unit.Trained.Select((t, i) => PieceFiles.Join(
            _ranks, unit, i, (t.Trained.Name, float32, t.Trained.Parameter.shape), elements: 1, _ => own[t.Index])))];
    }

    /// <inheritdoc/>
    public void FollowAverage(WeightAverage average) => SafetensorsWriter.Drop(AverageToWrite(average));

    /// <inheritdoc/>
    public void RestoreAverage(WeightAverage average, Func<string, Tensor> read)
    {
        var pieces = Pieces.ToDictionary(static p => p.Trained.Name);
        average.Restore(name =>
        {
            var piece = pieces[name];
            return read(piece.Name).reshape(-1).narrow(0, piece.Start, piece.Count).view(piece.Trained.Parameter.shape);
        });
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Stack.LayerWeights = null;
        _units.ForEach(static u => u.Dispose());
        _updates.Dispose();
        _weights?.Dispose();
    }

    // The gradients of later layers have come meanwhile.
    private void SendLayer(int layer)
    {
        Timed(() => (layer + 1 < _ofLayers.Length ? _ofLayers[layer + 1] : _ofHead).ForEach(static u => u.Take()));

        _ofLayers[layer].ForEach(static u => u.Send());
    }

    private IEnumerable<TrainedPiece> Pieces => _units.SelectMany(static u => u.Pieces);

    // In the current dispose scope.
    private IEnumerable<Tensor> Given() => Pieces.Select(static p => p.Trained.Parameter.grad).OfType<Tensor>();

    // A number, and the square sum of all gradients, over all ranks.
    private (double Number, double Square) Added(double number)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var own = Given().ToList();
        var square = own.Count == 0 ? 0
            : own.TrueForAll(CpuKernel.Serves) ? SquareSumKernel.Of(own)
            : stack(own.Select(static g => g.to(float32).norm())).to(float64).square().sum().ToDouble();
        var sums = _ranks.Add([number, square], _model.Device);
        return (sums[0], sums[1]);
    }

    private void Timed(Action work)
    {
        var started = Stopwatch.GetTimestamp();
        work();
        _exposed += Stopwatch.GetElapsedTime(started).TotalSeconds;
    }
}
