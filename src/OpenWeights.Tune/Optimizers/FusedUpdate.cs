using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// A parameter's step in one pass over its memory on the CPU: a composition of torch's operators goes through it about ten times, and
/// a step is as fast as memory is.
/// </summary>
internal abstract unsafe class FusedUpdate
{
    private protected FusedUpdate(ParameterSlot slot, Tensor weight, Tensor gradient)
    {
        Length = weight.numel();
        Weight = (nint)CpuKernel.Pointer(weight);
        Gradient = (nint)CpuKernel.Pointer(gradient);
        First = slot.StateCount > 0 ? (nint)CpuKernel.Pointer(slot[0]) : 0;
        Second = slot.StateCount > 1 ? (nint)CpuKernel.Pointer(slot[1]) : 0;
        Rounded = RoundsItself(slot, weight) ? (nint)CpuKernel.Pointer(slot.Trained.Parameter) : 0;
        Rest = IsSplit(slot, weight) ? (nint)CpuKernel.Pointer(slot.MasterRest!) : 0;
    }

    /// <summary>The parameter's elements.</summary>
    internal long Length { get; }

    /// <summary>Where the weights are that the step is taken on: float32, or their bfloat16 part.</summary>
    private protected nint Weight { get; }

    /// <summary>Where their gradients are.</summary>
    private protected nint Gradient { get; }

    /// <summary>Where the first state is, or 0.</summary>
    private protected nint First { get; }

    /// <summary>Where the second state is, or 0.</summary>
    private protected nint Second { get; }

    /// <summary>Where the weights are wanted in bfloat16 too, or 0.</summary>
    private protected nint Rounded { get; }

    /// <summary>Where the lower bits of weights are whose bfloat16 part is <see cref="Weight"/>, or 0.</summary>
    private protected nint Rest { get; }

    /// <summary>A step by a rule; null where the parameter, its gradient or its state does not lie so that it can be taken in one pass.</summary>
    internal static FusedUpdate? Of<TRule>(ParameterSlot slot, Tensor weight, Tensor gradient, TRule rule)
        where TRule : struct, IUpdateRule
    {
        var serves = CpuKernel.Serves(weight) && (weight.dtype == float32 || IsSplit(slot, weight)) && CpuKernel.Serves(gradient)
            && Enumerable.Range(0, slot.StateCount).All(i => CpuKernel.Serves(slot[i]) && slot[i].dtype == float32);
        return !serves ? null
            : gradient.dtype == bfloat16 ? new RuleUpdate<TRule, BFloat16Elements>(slot, weight, gradient, rule)
            : new RuleUpdate<TRule, Float32Elements>(slot, weight, gradient, rule);
    }

    /// <summary>Whether the weights that a step is taken on are a parameter and their lower bits.</summary>
    private static bool IsSplit(ParameterSlot slot, Tensor weight) => slot.MasterRest is not null && ReferenceEquals(weight, slot.Trained.Parameter);

    /// <summary>Whether the step writes a bfloat16 parameter too, beside the float32 weights that it is taken on.</summary>
    internal static bool RoundsItself(ParameterSlot slot, Tensor weight) =>
        ReferenceEquals(weight, slot.Master) && slot.Trained.Parameter.dtype == bfloat16 && CpuKernel.Serves(slot.Trained.Parameter);

    /// <summary>Takes steps, shared out among threads.</summary>
    /// <param name="updates">What is stepped.</param>
    /// <param name="gradientScale">What gradients are multiplied by before.</param>
    internal static void Run(IReadOnlyList<FusedUpdate> updates, double gradientScale)
    {
        var parts = ArrayPart.Of(updates.Select(static u => u.Length));
        ArrayPart.Run(parts, i => updates[parts[i].Array].Run(parts[i], (float)gradientScale));
    }

    /// <summary>Takes the step of some elements.</summary>
    private protected abstract void Run(ArrayPart part, float gradientScale);
}
