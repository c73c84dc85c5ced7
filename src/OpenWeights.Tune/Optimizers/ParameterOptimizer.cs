using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Base class of the optimizers, which step in float32, one parameter at a time. A lower-precision parameter has a float32 master copy or,
/// if it is bfloat16 on the CPU, the lower bits of one; alternatively it is rounded stochastically.
/// </summary>
internal abstract class ParameterOptimizer : IOptimizer
{
    private readonly List<ParameterSlot> _slots;
    private readonly List<IDisposable> _kept = [];

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="memory">How state is stored.</param>
    /// <param name="states">The state tensors of a parameter.</param>
    /// <exception cref="NotSupportedException">Stochastic rounding is requested for a parameter that is neither float32 nor
    /// bfloat16.</exception>
    protected ParameterOptimizer(IEnumerable<TrainedParameter> parameters, OptimizerMemory memory, Func<TrainedParameter, IEnumerable<StateShape>> states)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentNullException.ThrowIfNull(states);
        using var nothing = no_grad();
        _slots = [];
        foreach (var trained in parameters)
        {
            if (memory.LowPrecision == LowPrecision.StochasticRounding && trained.Parameter.dtype is not (ScalarType.Float32 or ScalarType.BFloat16))
            {
                throw new NotSupportedException($"stochastic rounding requires bfloat16, but {trained.Name} is {trained.Parameter.dtype}; set training.low_precision to master_weights.");
            }

            _slots.Add(new ParameterSlot(trained, _slots.Count, memory, states));
        }
    }

    /// <inheritdoc/>
    public long StepCount { get; set; }

    /// <inheritdoc/>
    public IReadOnlyList<(string Name, Tensor State)> State
    {
        get
        {
            if (_slots.Find(static s => s.IsPaged) is { } paged)
            {
                // The copies to CPU memory may not have ended yet.
                cuda.synchronize(paged.Trained.Parameter.device);
            }

            return [.. _slots.SelectMany(static s => s.Named)];
        }
    }

    /// <summary>The parameters with their state.</summary>
    private protected IReadOnlyList<ParameterSlot> Slots => _slots;

    /// <inheritdoc/>
    public virtual double NextRate(double scheduled) => scheduled;

    /// <inheritdoc/>
    public Tensor ExactWeight(int index)
    {
        using var nothing = no_grad();
        var slot = _slots[index];
        var parameter = slot.Trained.Parameter.detach();
        return slot.MasterRest is { } rest ? SplitFloat.Merge(parameter, rest) : slot.Master ?? parameter.to(float32);
    }

    /// <inheritdoc/>
    public virtual void Restore(Func<string, bool> has, Func<string, Tensor> read)
    {
        ArgumentNullException.ThrowIfNull(has);
        ArgumentNullException.ThrowIfNull(read);
        using var nothing = no_grad();
        _slots.ForEach(slot => slot.Restore(has, read));
    }

    /// <inheritdoc/>
    public void Step(double learningRate, double gradientScale = 1)
    {
        StepCount++;
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        BeforeStep(learningRate, gradientScale);
        var together = new List<FusedUpdate>();
        foreach (var slot in _slots.Where(static s => s.Trained.Parameter.grad is not null))
        {
            var rate = learningRate * slot.Trained.RateFactor;
            if (InPlace(slot, rate) is { } update)
            {
                together.Add(update);
            }
            else
            {
                Step(slot, rate, gradientScale);
            }
        }

        FusedUpdate.Run(together, gradientScale);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the state.</summary>
    /// <param name="disposing">Whether Dispose was called.</param>
    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
        {
            _slots.ForEach(static s => s.Dispose());
            _slots.Clear();
            _kept.ForEach(static s => s.Dispose());
            _kept.Clear();
        }
    }

    /// <summary>Prepares a step of all parameters; the step count is that of the step.</summary>
    /// <param name="learningRate">Learning rate of the step.</param>
    /// <param name="gradientScale">Factor that will be applied to the gradients.</param>
    protected virtual void BeforeStep(double learningRate, double gradientScale)
    {
    }

    /// <summary>Updates a weight in place from its gradient.</summary>
    /// <param name="slot">The parameter and its state.</param>
    /// <param name="weight">The weight, float32.</param>
    /// <param name="gradient">Its gradient, float32; may be modified only if it is a copy.</param>
    /// <param name="rate">Learning rate of this step for this parameter.</param>
    protected abstract void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate);

    /// <summary>The same update in one pass over memory; null if it must be composed of torch operators.</summary>
    /// <param name="slot">The parameter and its state.</param>
    /// <param name="weight">The weight, float32.</param>
    /// <param name="gradient">Its gradient, float32 or bfloat16.</param>
    /// <param name="rate">Learning rate of this step for this parameter.</param>
    private protected virtual FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) => null;

    /// <summary>A scalar that lives as long as the optimizer.</summary>
    /// <param name="value">The number.</param>
    protected Scalar Keep(double value)
    {
        Scalar scalar = value;
        return Keep(scalar);
    }

    /// <summary>An object that lives as long as the optimizer.</summary>
    private protected T Keep<T>(T value)
        where T : IDisposable
    {
        _kept.Add(value);
        return value;
    }

    /// <summary>Weight decay coefficient of a parameter: 0 if it does not decay.</summary>
    private protected static double DecayOf(ParameterSlot slot, double weightDecay) => slot.Trained.Decays ? weightDecay : 0;

    /// <summary>Weight decay factor of a step: 1 - rate x decay, or 1 if the parameter does not decay.</summary>
    private protected static double DecayFactor(ParameterSlot slot, double rate, double weightDecay) => 1 - (rate * DecayOf(slot, weightDecay));

    /// <summary>Applies weight decay: weight *= 1 - rate x decay, if the parameter decays.</summary>
    /// <param name="slot">The parameter.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="rate">The learning rate.</param>
    /// <param name="weightDecay">The weight decay coefficient.</param>
    protected static void Decay(ParameterSlot slot, Tensor weight, double rate, double weightDecay)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        if (DecayFactor(slot, rate, weightDecay) is var decay && decay != 1)
        {
            using Scalar factor = decay;
            _ = weight.mul_(factor);
        }
    }

    // A one-pass update of the parameter in place, to be applied together with others; null if not possible.
    private FusedUpdate? InPlace(ParameterSlot slot, double rate)
    {
        var parameter = slot.Trained.Parameter;
        var weight = slot.Master ?? parameter;
        return !slot.IsAway && !slot.IsPaged && (slot.Master is null || FusedUpdate.RoundsItself(slot, weight)) ? Fused(slot, weight, parameter.grad!, rate) : null;
    }

    private void Step(ParameterSlot slot, double rate, double gradientScale)
    {
        using var scope = NewDisposeScope();
        var parameter = slot.Trained.Parameter;
        var isWeight = slot.Master is null && parameter.dtype == float32 && !slot.IsAway;
        var (weight, gradient) = (isWeight ? parameter : Exact(slot), Home(slot, parameter.grad!));
        if (Fused(slot, weight, gradient, rate) is { } update)
        {
            FusedUpdate.Run([update], gradientScale);
        }
        else
        {
            using Scalar scale = gradientScale;
            slot.Open();
            Update(slot, weight, gradientScale == 1 ? gradient : gradient.mul_(scale), rate);
            slot.Close();
        }

        if (slot.MasterRest is { } rest)
        {
            SplitFloat.Split(weight, parameter, rest);
        }
        else if (!isWeight)
        {
            _ = parameter.copy_(slot.Master is not null || parameter.dtype == float32 ? weight : StochasticRounding.ToBFloat16(weight));
        }
    }

    // The float32 weights to update, if the parameter itself is not float32.
    private static Tensor Exact(ParameterSlot slot) =>
        slot.MasterRest is { } rest ? SplitFloat.Merge(slot.Trained.Parameter, rest) : slot.Master ?? Home(slot, slot.Trained.Parameter);

    // The gradient as float32, on the state's device.
    private static Tensor Home(ParameterSlot slot, Tensor tensor) => slot.IsAway ? tensor.to(float32, CPU) : tensor.to(float32);
}
