using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Steps;

/// <summary>float32 numbers at a place that no collection moves, at the beginning of a cache line.</summary>
internal sealed unsafe class StepNumbers
{
    private const int Line = 64;
    private readonly float[] _numbers;
    private readonly nint _start;

    /// <summary>Room for some numbers.</summary>
    /// <param name="count">How many.</param>
    internal StepNumbers(nint count)
    {
        _numbers = GC.AllocateUninitializedArray<float>(checked((int)count + (Line / sizeof(float))), pinned: true);
        _start = (Marshal.UnsafeAddrOfPinnedArrayElement(_numbers, 0) + Line - 1) / Line * Line;
        Count = count;
    }

    /// <summary>How many there are.</summary>
    internal nint Count { get; }

    /// <summary>Where they lie, as long as this is referenced.</summary>
    internal float* Start => (float*)_start;

    /// <summary>The numbers.</summary>
    internal Span<float> Span => new(Start, (int)Count);

    /// <summary>A tensor's numbers.</summary>
    internal static StepNumbers Of(Tensor tensor)
    {
        using var scope = NewDisposeScope();
        var values = tensor.detach().to(float32).cpu().contiguous();
        var numbers = new StepNumbers((nint)values.numel());
        MemoryMarshal.Cast<byte, float>(values.bytes).CopyTo(numbers.Span);
        return numbers;
    }
}
