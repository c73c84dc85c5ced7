using System.Diagnostics;
using System.Runtime.InteropServices;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Schedules;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Ranks;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Runs training steps: forward, backward, gradient clipping, optimizer step. It does not access files.</summary>
internal sealed class Trainer : IDisposable
{
    private readonly ITrainedModel _trained;
    private readonly IObjective _objective;
    private readonly BatchSampler _rows;
    private readonly RunConfig _config;
    private readonly SpikeDetector _spikes = new();
    private readonly LossScaler? _scaler;
    private readonly IRateSchedule _schedule;
    private readonly RankGroup _ranks;
    private readonly IShardStrategy _shards;

    /// <summary>Creates a trainer.</summary>
    /// <param name="trained">The model with its trained parameters.</param>
    /// <param name="objective">The objective to minimize.</param>
    /// <param name="rows">Selects the rows of each step.</param>
    /// <param name="config">Settings of the run.</param>
    /// <param name="totalSteps">Number of steps of the run, for the schedule.</param>
    public Trainer(ITrainedModel trained, IObjective objective, BatchSampler rows, RunConfig config, long totalSteps)
        : this(trained, objective, rows, config, totalSteps, RankGroup.Alone)
    {
    }

    /// <summary>Creates the trainer of one of several ranks, which computes its share of the micro-batches of each step.</summary>
    /// <param name="trained">The model with its trained parameters, which become those of the first rank.</param>
    /// <param name="objective">The objective to minimize.</param>
    /// <param name="rows">Selects the rows of each step, of all ranks together.</param>
    /// <param name="config">Settings of the run.</param>
    /// <param name="totalSteps">Number of steps of the run, for the schedule.</param>
    /// <param name="ranks">The ranks.</param>
    internal Trainer(ITrainedModel trained, IObjective objective, BatchSampler rows, RunConfig config, long totalSteps, RankGroup ranks)
    {
        ArgumentNullException.ThrowIfNull(trained);
        ArgumentNullException.ThrowIfNull(config);
        (_trained, _objective, _rows, _config, TotalSteps, _ranks) = (trained, objective, rows, config, totalSteps, ranks);
        _schedule = RateSchedules.Of(config.Training);
        _scaler = trained.Model.DType == float16 ? new LossScaler() : null;
        var warmup = RunRates.Of(config.Training, totalSteps).WarmupSteps;
        ranks.TakeFromFirst(trained.WholeWeights);
        _shards = ShardStrategies.Create(trained, config, config.Training with { WarmupSteps = warmup, WarmupRatio = null }, ranks);
        Ema = config.Training.Ema is { } ema ? new WeightAverage(trained.Parameters, Optimizer, ema.Decay) : null;
        trained.Model.Stack.ActivationCheckpointing = config.Training.Checkpointing;
        trained.Model.Stack.OffloadsActivations = config.Training.Offload == "activations";
    }

    /// <summary>Number of steps of the run.</summary>
    public long TotalSteps { get; }

    /// <summary>Number of completed steps, including skipped ones. It determines the next rows.</summary>
    public long StepsDone { get; private set; }

    /// <summary>The optimizer; its step count is the number of steps that changed the weights.</summary>
    public IOptimizer Optimizer => _shards.Optimizer;

    /// <summary>What becomes of gradients, optimizer state and weights.</summary>
    internal IShardStrategy Shards => _shards;

    /// <summary>Moving average of the weights (training.ema); null for none.</summary>
    public WeightAverage? Ema { get; }

    /// <summary>The averages that are evaluated and saved as the result; null if these are the last weights.</summary>
    public IAveragedWeights? Average => Ema is null ? Optimizer as IAveragedWeights : _config.Training.Ema!.Result == "averaged" ? Ema : null;

    /// <summary>State of the trainer, without evaluations.</summary>
    public TrainerState State
    {
        get => new()
        {
            Step = StepsDone,
            TotalSteps = TotalSteps,
            Updates = Optimizer.StepCount,
            RecentLosses = _spikes.Losses,
            LossScale = _scaler?.Scale,
            LossScaleGoodSteps = _scaler?.GoodSteps ?? 0,
            LossScaleSkipped = _scaler?.Skipped ?? 0,
            Objective = _objective.State,
        };
        set
        {
            ArgumentNullException.ThrowIfNull(value);
            (StepsDone, Optimizer.StepCount, _spikes.Losses) = (value.Step, value.Updates, value.RecentLosses);
            _objective.State = value.Objective;
            if (_scaler is not null && value.LossScale is { } scale)
            {
                (_scaler.Scale, _scaler.GoodSteps, _scaler.Skipped) = (scale, value.LossScaleGoodSteps, value.LossScaleSkipped);
            }
        }
    }

    /// <summary>Runs forward and backward on the longest batch, without changing anything.</summary>
    /// <exception cref="ExternalException">It does not fit into memory.</exception>
    public void Rehearse()
    {
        var batch = _objective.Longest(_trained.Model, _rows);
        RandomState.Seed(_config.Seed, _trained.Model.Device);
        _trained.Training = _objective.UsesDropout;
        var state = _objective.State;
        using (NewDisposeScope())
        {
            var units = Begin([batch]);
            _ = Accumulate([(0, batch)], units, 0).Sum(static l => l.ToDouble());
            _ = _objective.End();
        }

        _objective.State = state;
        _trained.Training = false;
        _shards.Drop();
    }

    /// <summary>
    /// Runs forward and backward on the longest batch, and an optimizer step that changes no weight, to measure the most demanding step.
    /// </summary>
    /// <returns>Seconds of forward and backward, and of the optimizer step.</returns>
    /// <exception cref="ExternalException">It does not fit into memory.</exception>
    internal (double Rows, double Update) Measure()
    {
        var started = Stopwatch.GetTimestamp();
        var batch = _objective.Longest(_trained.Model, _rows);
        RandomState.Seed(_config.Seed, _trained.Model.Device);
        _trained.Training = _objective.UsesDropout;
        using var scope = NewDisposeScope();
        var units = Begin([batch]);
        _ = Measure(Accumulate([(0, batch)], units, 0), units);
        _ = _objective.End();
        _trained.Training = false;
        var rows = Stopwatch.GetElapsedTime(started).TotalSeconds;
        started = Stopwatch.GetTimestamp();
        Optimizer.Step(0, 0);
        Devices.Wait(_trained.Model.Device);
        Gradients.Drop(_trained.Parameters);
        return (rows, Stopwatch.GetElapsedTime(started).TotalSeconds);
    }

    /// <summary>Runs one optimizer step.</summary>
    /// <exception cref="TrainingFailedException">The loss or a gradient is not finite, and the config says to stop.</exception>
    public StepMetrics Step()
    {
        var started = Stopwatch.GetTimestamp();
        var step = StepsDone;
        using var doing = _ranks.Activity?.Do("a step");
        var batches = Rows(step);
        var targets = batches.Sum(static b => b.Sum(static r => (long)r.CountTargets()));

        // All randomness is derived from seed, step and micro-batch, so that resuming needs no random state, and ranks draw what one process draws.
        var seed = unchecked((_config.Seed * 1_000_003) + step);
        RandomState.Seed(seed, _trained.Model.Device);
        _trained.Training = _objective.UsesDropout;
        using var scope = NewDisposeScope();
        var units = Begin(batches);
        _trained.Model.Stack.EmbeddingNoise = _config.Training.NeftuneNoiseAlpha;
        var losses = Accumulate([.. _ranks.Share(batches)], units, seed, _shards, batches);
        _trained.Model.Stack.EmbeddingNoise = 0;
        _trained.Training = false;
        _shards.Accumulated();
        var updating = Stopwatch.GetTimestamp();
        var (loss, norm) = Measure(losses, units);
        var finite = double.IsFinite(norm);
        var scale = _scaler?.Scale;

        // If the loss is finite, only the loss scale was too large.
        var overflowed = !finite && double.IsFinite(loss) && _scaler?.CanFall == true;
        if (!finite && !overflowed && _config.Training.NonFinite == "stop")
        {
            throw Failure(loss, norm, step, batches);
        }

        var rate = Rate(step);
        if (finite)
        {
            RandomState.Seed(SeedOf(seed, batches.Count), _trained.Model.Device);
            Update(rate, norm, scale ?? 1);
            _scaler?.Succeeded();
            _trained.Stepped(step, TotalSteps);
        }
        else if (overflowed)
        {
            _scaler!.Overflowed();
        }

        var updated = Stopwatch.GetElapsedTime(updating).TotalSeconds;
        _shards.Drop();
        StepsDone++;
        var spike = finite && _spikes.Sees(loss);
        var seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        var tokens = batches.Sum(static b => b.Sum(static r => (long)r.Ids.Length));
        return new StepMetrics
        {
            Step = step + 1,
            Epoch = (double)(step + 1) / _rows.StepsPerEpoch,
            Loss = loss,
            LearningRate = rate,
            GradNorm = norm,
            Tokens = tokens,
            TargetTokens = targets,
            TokensPerSecond = tokens / seconds,
            Seconds = seconds,
            UpdateSeconds = updated,
            CommunicationSeconds = _ranks.IsAlone ? null : _shards.TakeExposedSeconds(),
            PeakMemoryBytes = ProcessMemory.Peak,
            Skipped = !finite,
            LossScale = scale,
            Overflowed = overflowed,
            Spike = spike,
            Rows = !finite || spike ? Names(batches) : null,
            Objective = _objective.End(),
        };
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Ema?.Dispose();
        _shards.Dispose();
    }

    // Answers may have to be sampled, and judged.
    private IReadOnlyList<IReadOnlyList<TokenRow>> Rows(long step)
    {
        using var doing = _ranks.Activity?.Do("making a step's rows");
        return _objective.Rows(_trained.Model, step, _rows);
    }

    // The learning rate of a step: the schedule's, unless the optimizer has its own.
    private double Rate(long step)
    {
        var training = _config.Training;
        return Optimizer.NextRate(training.HasOwnRate ? training.LearningRate : RateSchedules.Rate(_schedule, training.LearningRate, step, RunRates.Of(training, TotalSteps)));
    }

    // Clips the gradients and takes the optimizer's step.
    private void Update(double rate, double norm, double scale)
    {
        var training = _config.Training;
        if (training.MaxGradValue > 0)
        {
            var limited = _shards.ClipValues(training.MaxGradValue * scale, training.MaxGradNorm > 0);
            norm = training.MaxGradNorm > 0 ? Unscaled(limited) : norm;
        }

        _ranks.Activity?.Progressed();
        _shards.Step(rate, Gradients.ClipFactor(norm, training.MaxGradNorm) / scale);
        Ema?.Add();
    }

    // The number that the loss of these micro-batches is divided by.
    private long Begin(IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        using var nothing = no_grad();
        return Math.Max(1, _objective.Begin(_trained.Model, batches));
    }

    // Gradient of the step's loss: the losses of some micro-batches, divided by the number of units (targets, pairs or rows) of all.
    // The micro-batch sums are in the caller's dispose scope: they are read from a GPU only after all its work is queued.
    private List<Tensor> Accumulate(IReadOnlyList<(int Number, IReadOnlyList<TokenRow> Rows)> batches, long units, long seed, IShardStrategy? shards = null, IReadOnlyList<IReadOnlyList<TokenRow>>? all = null)
    {
        using Scalar share = (_scaler?.Scale ?? 1) / units;
        var losses = new List<Tensor>();

        // Of several ranks, one adds the penalty, before its last micro-batch, after which gradients are sent.
        if (!_ranks.IsAlone && _ranks.IsFirst)
        {
            Penalize();
        }

        foreach (var (number, rows) in batches)
        {
            if (number > 0)
            {
                RandomState.Seed(SeedOf(seed, number), _trained.Model.Device);
            }

            using var scope = NewDisposeScope();
            _ranks.Activity?.Begins((long)rows.Count * rows.Max(static r => r.Ids.Length));
            shards?.Accumulating(isLast: number == batches[^1].Number);
            if (_objective.LossSum(_trained.Model, rows) is { } loss)
            {
                BackwardPass.Run([loss.mul(share)]);
                losses.Add(loss.detach().MoveToOuterDisposeScope());
            }
            else
            {
                Fill(shards, all);
            }
        }

        for (var round = batches.Count; shards?.NeedsEqualRounds == true && round < (all!.Count + _ranks.Size - 1) / _ranks.Size; round++)
        {
            Fill(shards, all);
        }

        if (_ranks.IsAlone)
        {
            Penalize();
        }

        return losses;
    }

    // The passes of a micro-batch that this rank does not have, so that it takes part in what the others send meanwhile.
    private void Fill(IShardStrategy? shards, IReadOnlyList<IReadOnlyList<TokenRow>>? all)
    {
        if (shards?.NeedsEqualRounds != true)
        {
            return;
        }

        // Objectives of scores and vectors train on rows without targets.
        var rows = all!.FirstOrDefault(static b => b.Any(static r => r.CountTargets() > 0)) ?? all![0];

        using var scope = NewDisposeScope();
        using Scalar nothing = 0;
        _ranks.Activity?.Begins((long)rows.Count * rows.Max(static r => r.Ids.Length));
        MetricMeans.Without(() =>
        {
            if (_objective.LossSum(_trained.Model, rows) is { } loss)
            {
                BackwardPass.Run([loss.mul(nothing)]);
            }
        });
    }

    private void Penalize()
    {
        using var scope = NewDisposeScope();
        if (_trained.Penalty() is { } penalty)
        {
            using Scalar scale = _scaler?.Scale ?? 1;
            BackwardPass.Run([penalty.mul(scale)]);
        }
    }

    // The seed of a micro-batch, and, after the last one, that of the update; the first has the step's.
    private static long SeedOf(long step, int number) => (long)(RowHash.Mix((ulong)number, step) >> 1);

    // The step's loss and gradient norm.
    private (double Loss, double Norm) Measure(List<Tensor> losses, long units)
    {
        var (loss, norm) = _shards.Measure(losses);
        return (loss / units, Unscaled(norm));
    }

    private double Unscaled(double norm) => norm / (_scaler?.Scale ?? 1);

    private static TrainingFailedException Failure(double loss, double norm, long step, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        var (what, value) = double.IsFinite(loss) ? ("gradient norm", norm) : ("loss", loss);
        if (step == 0 && !double.IsFinite(loss))
        {
            return new TrainingFailedException(
                $"the loss of the first step is {value}, before anything was trained. Its rows: {Names(batches)}. "
                + "Either the model's files are damaged (does owt generate answer with it?), or it overflows in its dtype: try model.dtype float32.");
        }

        return new TrainingFailedException(
            $"the {what} of step {step + 1} is {value}; the step was not taken. Its rows: {Names(batches)}. "
            + "Try a lower training.learning_rate, a lower training.max_grad_norm, or model.dtype float32; training.non_finite: skip skips such steps.");
    }

    private static string Names(IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        var rows = batches.SelectMany(static b => b).Select(static r => r.Source).ToList();
        return $"{string.Join(", ", rows.Take(8))}{(rows.Count > 8 ? ", ..." : "")}";
    }
}
