using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>
/// A parameter's step in one pass over its memory on the CPU: a composition of torch's operators goes through it about ten times, and
/// a step is as fast as memory is.
/// </summary>
internal abstract unsafe class FusedUpdate
{
    // Elements that are converted at once: a few KiB on the stack.
    private const int BlockLength = 1024;

    private readonly float* _weight;
    private readonly void* _gradient;
    private readonly bool _gradientIsBFloat16;
    private readonly ushort* _rounded;
    private readonly float* _first;
    private readonly float* _second;

    private protected FusedUpdate(ParameterSlot slot, Tensor weight, Tensor gradient)
    {
        Length = weight.numel();
        _weight = (float*)CpuMemory.Start(weight);
        _gradient = CpuMemory.Start(gradient);
        _gradientIsBFloat16 = gradient.dtype == bfloat16;
        _first = slot.StateCount > 0 ? (float*)CpuMemory.Start(slot[0]) : null;
        _second = slot.StateCount > 1 ? (float*)CpuMemory.Start(slot[1]) : null;
        _rounded = RoundsItself(slot, weight) ? (ushort*)CpuMemory.Start(slot.Trained.Parameter) : null;
    }

    /// <summary>The parameter's elements.</summary>
    internal long Length { get; }

    /// <summary>Whether a parameter, its gradient and state lie so that they can be stepped in one pass.</summary>
    internal static bool CanRun(ParameterSlot slot, Tensor weight, Tensor gradient) =>
        weight.dtype == float32 && CpuMemory.Holds(weight) && CpuMemory.Holds(gradient) && (gradient.dtype == float32 || gradient.dtype == bfloat16)
        && Enumerable.Range(0, slot.StateCount).All(i => slot[i].dtype == float32 && slot[i].numel() == weight.numel() && CpuMemory.Holds(slot[i]));

    /// <summary>Whether the step writes a bfloat16 parameter too, beside the float32 weights that it is taken on.</summary>
    internal static bool RoundsItself(ParameterSlot slot, Tensor weight) =>
        ReferenceEquals(weight, slot.Master) && slot.Trained.Parameter.dtype == bfloat16 && CpuMemory.Holds(slot.Trained.Parameter);

    /// <summary>Takes steps, shared out among threads.</summary>
    /// <param name="updates">What is stepped.</param>
    /// <param name="gradientScale">What gradients are multiplied by before.</param>
    internal static void Run(IReadOnlyList<FusedUpdate> updates, double gradientScale) =>
        CpuMemory.ForParts([.. updates.Select(static u => u.Length)], part => updates[part.Array].Run(part.Start, part.Count, (float)gradientScale));

    private protected abstract void Run(float* weight, float* gradient, float* first, float* second, int count, float gradientScale);

    private void Run(long start, int count, float gradientScale)
    {
        var converted = stackalloc float[_gradientIsBFloat16 ? BlockLength : 0];
        for (var done = 0; done < count; done += BlockLength)
        {
            var (at, length) = (start + done, Math.Min(BlockLength, count - done));
            var gradient = converted;
            if (_gradientIsBFloat16)
            {
                BFloat16Bits.ToFloat(new ReadOnlySpan<ushort>((ushort*)_gradient + at, length), new Span<float>(converted, length));
            }
            else
            {
                gradient = (float*)_gradient + at;
            }

            Run(_weight + at, gradient, _first is null ? null : _first + at, _second is null ? null : _second + at, length, gradientScale);
            if (_rounded is not null)
            {
                BFloat16Bits.FromFloat(new ReadOnlySpan<float>(_weight + at, length), new Span<ushort>(_rounded + at, length));
            }
        }
    }
}
