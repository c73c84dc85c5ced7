using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// An optimizer step in one pass over a parameter's memory on the CPU. Composed of torch operators it takes about ten passes, and the step
/// is limited by memory bandwidth.
/// </summary>
internal abstract unsafe class FusedUpdate
{
    /// <summary>Largest number of state tensors.</summary>
    internal const int MaxStates = 3;

    private protected FusedUpdate(ParameterSlot slot, Tensor weight, Tensor gradient)
    {
        Length = weight.numel();
        Weight = (nint)CpuKernel.Pointer(weight);
        Gradient = (nint)CpuKernel.Pointer(gradient);
        States = [.. slot.Stored.Select(static s => (nint)CpuKernel.Pointer(s.Values)), .. Enumerable.Repeat((nint)0, MaxStates - slot.StateCount)];
        Rounded = RoundsItself(slot, weight) ? (nint)CpuKernel.Pointer(slot.Trained.Parameter) : 0;
        Rest = IsSplit(slot, weight) ? (nint)CpuKernel.Pointer(slot.MasterRest!) : 0;
    }

    /// <summary>Number of elements.</summary>
    internal long Length { get; }

    /// <summary>Address of the weights to update: float32, or the bfloat16 upper half.</summary>
    private protected nint Weight { get; }

    /// <summary>Address of the gradients.</summary>
    private protected nint Gradient { get; }

    /// <summary>Address of each state tensor, or of its codes; 0 for none.</summary>
    private protected nint[] States { get; }

    /// <summary>Address of a bfloat16 copy to write as well, or 0.</summary>
    private protected nint Rounded { get; }

    /// <summary>Address of the lower 16 bits if <see cref="Weight"/> is the bfloat16 upper half, or 0.</summary>
    private protected nint Rest { get; }

    /// <summary>
    /// Creates an update for a rule; null if the memory layout of parameter, gradient or state does not allow a single pass.
    /// </summary>
    internal static FusedUpdate? Of<TRule>(ParameterSlot slot, Tensor weight, Tensor gradient, TRule rule)
        where TRule : struct, IUpdateRule
    {
        var serves = CpuKernel.Serves(weight) && (weight.dtype == float32 || IsSplit(slot, weight)) && CpuKernel.Serves(gradient)
            && slot.Stored.All(static s => s.Scales is not null || (CpuKernel.Serves(s.Values) && s.Values.dtype == float32));
        if (!serves)
        {
            return null;
        }

        var (coded, small) = (slot.StateCount > 0 && slot.Stored.All(static s => s.Scales is not null), gradient.dtype == bfloat16);
        return coded
            ? small ? new CodedUpdate<TRule, BFloat16Elements>(slot, weight, gradient, rule) : new CodedUpdate<TRule, Float32Elements>(slot, weight, gradient, rule)
            : slot.Stored.Any(static s => s.Scales is not null) ? null
            : small ? new RuleUpdate<TRule, BFloat16Elements>(slot, weight, gradient, rule)
            : new RuleUpdate<TRule, Float32Elements>(slot, weight, gradient, rule);
    }

    /// <summary>Whether the updated weights are a bfloat16 parameter plus lower bits.</summary>
    private static bool IsSplit(ParameterSlot slot, Tensor weight) => slot.MasterRest is not null && ReferenceEquals(weight, slot.Trained.Parameter);

    /// <summary>Whether the step also writes a bfloat16 parameter, besides the float32 weights.</summary>
    internal static bool RoundsItself(ParameterSlot slot, Tensor weight) =>
        ReferenceEquals(weight, slot.Master) && slot.Trained.Parameter.dtype == bfloat16 && CpuKernel.Serves(slot.Trained.Parameter);

    /// <summary>Applies updates in parallel.</summary>
    /// <param name="updates">The updates.</param>
    /// <param name="gradientScale">Factor applied to the gradients first.</param>
    internal static void Run(IReadOnlyList<FusedUpdate> updates, double gradientScale)
    {
        var parts = ArrayPart.Of(updates.Select(static u => u.Length));
        ArrayPart.Run(parts, i => updates[parts[i].Array].Run(parts[i], (float)gradientScale));
    }

    /// <summary>Updates a range of elements.</summary>
    private protected abstract void Run(ArrayPart part, float gradientScale);
}
