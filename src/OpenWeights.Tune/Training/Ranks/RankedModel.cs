using System.Diagnostics;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>Several ranks that sum the gradients of their micro-batches. A parameter without a gradient on any rank is not updated, as in one process.</summary>
internal abstract class RankedModel : IShardStrategy
{
    private readonly CausalLanguageModel _model;
    private double _exposed;

    /// <summary>Creates the strategy; the model tells it which layers are done.</summary>
    /// <param name="trained">The model.</param>
    /// <param name="ranks">The ranks.</param>
    /// <param name="settings">The parallel section.</param>
    /// <param name="block">Elements at whose multiples parameters start and are cut in buckets.</param>
    /// <param name="scatters">Whether a rank gets only the sums of its own part.</param>
    private protected RankedModel(ITrainedModel trained, RankGroup ranks, ParallelSection settings, long block, bool scatters)
    {
        (_model, Parameters, Ranks) = (trained.Model, trained.Parameters, ranks);
        var layout = GradientLayout.Of(Parameters, _model.Config, ranks.Size, settings.BucketMib * (1 << 20), block);
        Buckets = new GradientBuckets(ranks, Parameters, layout, scatters);
        _model.Stack.LayerPassed = layer =>
        {
            ranks.Activity?.Progressed();
            Buckets.Passed(layer);
        };
    }

    /// <inheritdoc/>
    public abstract IOptimizer Optimizer { get; }

    /// <inheritdoc/>
    public IReadOnlyList<TrainedParameter> Averaged => Parameters;

    /// <summary>The ranks.</summary>
    private protected RankGroup Ranks { get; }

    /// <summary>The trained parameters.</summary>
    private protected IReadOnlyList<TrainedParameter> Parameters { get; }

    /// <summary>Their gradients on the way.</summary>
    private protected GradientBuckets Buckets { get; }

    /// <summary>The gradients that this rank measures and clips: together those of all ranks are all gradients, each once. In the current dispose scope.</summary>
    private protected abstract IEnumerable<Tensor> Measured { get; }

    /// <summary>The gradients that this rank has after the sums, in the current dispose scope.</summary>
    private protected abstract IEnumerable<Tensor> Owned { get; }

    /// <inheritdoc/>
    public double TakeExposedSeconds()
    {
        var taken = _exposed;
        _exposed = 0;
        return taken;
    }

    /// <inheritdoc/>
    public virtual void Accumulating(bool isLast) => Buckets.IsLast = isLast;

    /// <inheritdoc/>
    public virtual void Accumulated() => Communicate(() =>
    {
        using var scope = NewDisposeScope();
        Buckets.Finish();

        // Parameters that several layers use may have got more of a gradient after they were sent.
        var late = Parameters.Select(static p => p.Parameter.grad is not null).ToList();
        var counts = Ranks.Sum([.. Buckets.Had.Select(static h => h ? 1.0 : 0), .. late.Select(static l => l ? 1.0 : 0)], _model.Device);
        var more = Enumerable.Range(0, late.Count).Where(i => counts[late.Count + i] > 0).ToDictionary(static i => i, i => Late(i, late[i]));
        Take([.. counts[..late.Count].Select((c, i) => c > 0 || more.ContainsKey(i))], more);
    });

    /// <inheritdoc/>
    public (double Loss, double Norm) Measure(IReadOnlyList<Tensor> losses)
    {
        using var scope = NewDisposeScope();
        var own = losses.Sum(static l => l.ToDouble());
        var (loss, square) = Added(own);
        return (loss, double.IsFinite(loss) ? Math.Sqrt(square) : double.NaN);
    }

    /// <inheritdoc/>
    public double ClipValues(double largest, bool measures)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using Scalar least = -largest, most = largest;
        foreach (var gradient in Owned)
        {
            _ = gradient.clamp_(least, most);
        }

        return measures ? Math.Sqrt(Added(0).Square) : 0;
    }

    /// <inheritdoc/>
    public abstract void Step(double rate, double factor);

    /// <inheritdoc/>
    public virtual void Drop()
    {
        Gradients.Drop(Parameters);
        Buckets.Drop();
    }

    /// <inheritdoc/>
    public virtual IReadOnlyList<TensorToWrite> State() => [.. Optimizer.State.Select(static s => TensorFiles.ToWrite(s.Name, s.State))];

    /// <inheritdoc/>
    public virtual void FollowState()
    {
    }

    /// <inheritdoc/>
    public virtual void Dispose()
    {
        _model.Stack.LayerPassed = null;
        Buckets.Dispose();
        Optimizer.Dispose();
    }

    /// <summary>Makes the sums the gradients of what this rank updates.</summary>
    /// <param name="present">Whether some rank has a gradient of each parameter.</param>
    /// <param name="more">Sums to add, by parameter.</param>
    private protected abstract void Take(IReadOnlyList<bool> present, IReadOnlyDictionary<int, Tensor> more);

    /// <summary>Does what is only communication, and measures its time.</summary>
    private protected void Communicate(Action work)
    {
        Devices.Wait(_model.Device);
        var started = Stopwatch.GetTimestamp();
        work();
        Devices.Wait(_model.Device);
        _exposed += Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    // A number and the square sum of all gradients, over all ranks.
    private (double Number, double Square) Added(double number)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var measured = Measured.ToList();
        var square = measured.TrueForAll(CpuKernel.Serves) ? SquareSumKernel.Of(measured)
            : stack(measured.Select(static g => g.to(float32).norm())).to(float64).square().sum().ToDouble();
        var (sums, started) = (Array.Empty<double>(), Stopwatch.GetTimestamp());
        sums = Ranks.Add([number, square], _model.Device);
        _exposed += Stopwatch.GetElapsedTime(started).TotalSeconds;
        return (sums[0], sums[1]);
    }

    // The sum of what came after a parameter was sent, flat, in the current dispose scope.
    private Tensor Late(int index, bool isHere)
    {
        using var nothing = no_grad();
        var parameter = Parameters[index].Parameter;
        var values = isHere ? parameter.grad!.to(float32, copy: true).reshape(-1) : zeros([parameter.numel()], float32, parameter.device);
        Ranks.Collectives.BeginAllReduceSum(values).Wait();
        parameter.grad = null;
        return values;
    }
}
