using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// What optimizers share: they step in float32, one parameter after the other. A parameter of lower precision has a float32 master copy or,
/// where it is bfloat16 on the CPU, the lower bits of one; or it is rounded at random so that small updates count on average.
/// </summary>
public abstract class ParameterOptimizer : IOptimizer
{
    private readonly List<ParameterSlot> _slots;
    private readonly List<Scalar> _scalars = [];

    /// <summary>An optimizer over parameters.</summary>
    /// <param name="parameters">What is trained.</param>
    /// <param name="memory">What is held, and where.</param>
    /// <param name="states">Makes the state of a parameter, on the device of the tensor that it is given, which has the parameter's shape.</param>
    /// <exception cref="NotSupportedException">Random rounding is asked for and a parameter is neither float32 nor bfloat16.</exception>
    protected ParameterOptimizer(IEnumerable<TrainedParameter> parameters, OptimizerMemory memory, Func<Tensor, IEnumerable<(string Name, Tensor Tensor)>> states)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentNullException.ThrowIfNull(states);
        using var nothing = no_grad();
        _slots = [];
        foreach (var trained in parameters)
        {
            if (memory.LowPrecision == LowPrecision.StochasticRounding && trained.Parameter.dtype is not (ScalarType.Float32 or ScalarType.BFloat16))
            {
                throw new NotSupportedException($"stochastic rounding is for bfloat16, and {trained.Name} is {trained.Parameter.dtype}; set training.low_precision to master_weights.");
            }

            _slots.Add(new ParameterSlot(trained, memory, states));
        }
    }

    /// <inheritdoc/>
    public long StepCount { get; set; }

    /// <inheritdoc/>
    public IReadOnlyList<(string Name, Tensor State)> State => [.. _slots.SelectMany(static s => s.Named)];

    /// <inheritdoc/>
    public void Restore(Func<string, bool> has, Func<string, Tensor> read)
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
    /// <param name="disposing">Whether it was asked for.</param>
    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
        {
            _slots.ForEach(static s => s.Dispose());
            _slots.Clear();
            _scalars.ForEach(static s => s.Dispose());
            _scalars.Clear();
        }
    }

    /// <summary>Changes a weight by its gradient, in place.</summary>
    /// <param name="slot">The parameter and its state.</param>
    /// <param name="weight">The weight, float32.</param>
    /// <param name="gradient">Its gradient, float32; it may be changed only where it is a copy.</param>
    /// <param name="rate">The learning rate of this step for this parameter.</param>
    protected abstract void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate);

    /// <summary>The same change as one pass over memory; null where it has to be composed.</summary>
    /// <param name="slot">The parameter and its state.</param>
    /// <param name="weight">The weight, float32.</param>
    /// <param name="gradient">Its gradient, float32 or bfloat16.</param>
    /// <param name="rate">The learning rate of this step for this parameter.</param>
    private protected virtual FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) => null;

    /// <summary>A number that lives as long as the optimizer.</summary>
    /// <param name="value">The number.</param>
    protected Scalar Keep(double value)
    {
        Scalar scalar = value;
        _scalars.Add(scalar);
        return scalar;
    }

    /// <summary>What a step multiplies a weight by before it changes it: 1 - rate x decay, where the parameter decays.</summary>
    private protected static double DecayFactor(ParameterSlot slot, double rate, double weightDecay) => slot.Trained.Decays ? 1 - (rate * weightDecay) : 1;

    /// <summary>weight *= 1 - rate x decay, where the parameter decays.</summary>
    /// <param name="slot">The parameter.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="rate">The learning rate.</param>
    /// <param name="weightDecay">The decay per unit of learning rate.</param>
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

    // A step that changes the parameter where it lies, to be taken with others; null where there is none.
    private FusedUpdate? InPlace(ParameterSlot slot, double rate)
    {
        var parameter = slot.Trained.Parameter;
        var weight = slot.Master ?? parameter;
        return !slot.IsAway && (slot.Master is null || FusedUpdate.RoundsItself(slot, weight)) ? Fused(slot, weight, parameter.grad!, rate) : null;
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
            Update(slot, weight, gradientScale == 1 ? gradient : gradient.mul_(scale), rate);
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

    // The float32 numbers that a step is taken on where the parameter does not hold them.
    private static Tensor Exact(ParameterSlot slot) =>
        slot.MasterRest is { } rest ? SplitFloat.Merge(slot.Trained.Parameter, rest) : slot.Master ?? Home(slot, slot.Trained.Parameter);

    // As float32, where the state is.
    private static Tensor Home(ParameterSlot slot, Tensor tensor) => slot.IsAway ? tensor.to(float32, CPU) : tensor.to(float32);
}
