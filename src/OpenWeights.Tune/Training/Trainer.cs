using System.Diagnostics;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Optimizers;
using OpenWeights.Tune.Training.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>The one training loop's step: forward, backward, clip, update. It knows nothing of files.</summary>
public sealed class Trainer : IDisposable
{
    private readonly ITrainedModel _trained;
    private readonly IObjective _objective;
    private readonly RunRows _rows;
    private readonly RunConfig _config;

    /// <summary>A trainer.</summary>
    /// <param name="trained">The model and what of it is trained.</param>
    /// <param name="objective">What is minimised.</param>
    /// <param name="rows">Which rows each step trains on.</param>
    /// <param name="config">The run's settings.</param>
    /// <param name="totalSteps">The steps of the run, for the schedule.</param>
    public Trainer(ITrainedModel trained, IObjective objective, RunRows rows, RunConfig config, long totalSteps)
    {
        ArgumentNullException.ThrowIfNull(trained);
        ArgumentNullException.ThrowIfNull(config);
        (_trained, _objective, _rows, _config, TotalSteps) = (trained, objective, rows, config, totalSteps);
        var training = config.Training;
        Optimizer = new AdamW(trained.Parameters, training.Betas[0], training.Betas[1], training.Eps, training.WeightDecay);
        trained.Model.Stack.ActivationCheckpointing = training.ActivationCheckpointing;
    }

    /// <summary>The steps of the run.</summary>
    public long TotalSteps { get; }

    /// <summary>The optimizer; its step count is the number of steps done.</summary>
    public IOptimizer Optimizer { get; }

    /// <summary>One optimizer step.</summary>
    /// <exception cref="TrainingFailedException">The loss or a gradient is not a finite number.</exception>
    public StepMetrics Step()
    {
        var started = Stopwatch.GetTimestamp();
        var step = Optimizer.StepCount;
        var batches = _rows.Of(step);
        var targets = batches.Sum(static b => b.Sum(static r => (long)r.CountTargets()));

        // Everything random in a step comes from the seed and the step, so that going on from a checkpoint needs no random state.
        RandomState.Seed(unchecked((_config.Seed * 1_000_003) + step), _trained.Model.Device);
        _trained.Training = true;
        var loss = Accumulate(batches, targets) / targets;
        _trained.Training = false;
        RequireFinite(loss, "loss", step, batches);
        var norm = Gradients.Clip(_trained.Parameters, _config.Training.MaxGradNorm);
        RequireFinite(norm, "gradient norm", step, batches);
        var rate = RateSchedules.Rate(_config.Training.LrScheduler, _config.Training.LearningRate, step, _config.Training.WarmupSteps, TotalSteps);
        Optimizer.Step(rate);
        Gradients.Drop(_trained.Parameters);

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
            PeakMemoryBytes = ProcessMemory.Peak,
        };
    }

    /// <inheritdoc/>
    public void Dispose() => Optimizer.Dispose();

    // The gradient of the step's loss: summed cross entropy over the targets of all micro-batches, divided by their number.
    private double Accumulate(IReadOnlyList<IReadOnlyList<TokenRow>> batches, long targets)
    {
        using Scalar share = 1.0 / targets;
        var total = 0.0;
        foreach (var rows in batches)
        {
            using var scope = NewDisposeScope();
            var batch = TokenBatch.Of(rows, padId: 0, _trained.Model.Device);
            if (batch.TargetCount == 0)
            {
                continue;
            }

            var loss = _objective.LossSum(_trained.Model, batch);
            loss.mul(share).backward();
            total += loss.ToDouble();
        }

        return total;
    }

    private static void RequireFinite(double value, string what, long step, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        if (!double.IsFinite(value))
        {
            var rows = batches.SelectMany(static b => b).Select(static r => r.Source).ToList();
            throw new TrainingFailedException(
                $"the {what} of step {step + 1} is {value}; the step was not taken. Its rows: {string.Join(", ", rows.Take(8))}{(rows.Count > 8 ? ", ..." : "")}. "
                + "Try a lower training.learning_rate, a lower training.max_grad_norm, or model.dtype float32.");
        }
    }
}
