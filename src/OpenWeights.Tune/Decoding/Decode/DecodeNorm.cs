using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>RMS norm of single rows.</summary>
/// <param name="scale">Weights of the features.</param>
/// <param name="settings">Settings of the norm.</param>
internal sealed unsafe class DecodeNorm(DecodeBuffer scale, RmsNormSettings settings)
{
    /// <summary>Number of features.</summary>
    internal nint Features => scale.Count;

    /// <summary>Creates the norm of a module; null if it is not an RMS norm.</summary>
    internal static DecodeNorm? Of(Norm module)
    {
        if (module is not RmsNorm { Scale: not null } norm)
        {
            return null;
        }

        var scale = DecodeBuffer.Of(norm.Scale);
        for (var i = 0; norm.Settings.AddsOne && i < scale.Count; i++)
        {
            scale.Span[i] += 1;
        }

        return new DecodeNorm(scale, norm.Settings);
    }

    /// <summary>Normalizes a row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="output">Destination; may be the row itself.</param>
    /// <param name="half">Whether the model is in bfloat16.</param>
    internal void Apply(float* row, float* output, bool half)
    {
        var (count, sum) = (Features, Vector256<float>.Zero);
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var state = Lanes.Read<Float32Elements>(row, i, count);
            sum += state * state;
        }

        var factor = 1 / MathF.Sqrt((Vector256.Sum(sum) / count) + (float)settings.Epsilon);
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var scaled = DecodeMath.Round(Lanes.Read<Float32Elements>(row, i, count) * factor, half && !settings.ScalesBeforeRounding);
            Lanes.Write<Float32Elements>(output, i, count, DecodeMath.Round(scaled * Lanes.Read<Float32Elements>(scale.Start, i, count), half));
        }

        GC.KeepAlive(scale);
    }
}

/// <summary>A pinned float32 buffer, aligned to a cache line.</summary>
internal sealed unsafe class DecodeBuffer
{
    private const int Line = 64;
    private readonly float[] _numbers;
    private readonly nint _start;

    /// <summary>Allocates a buffer.</summary>
    /// <param name="count">Number of elements.</param>
    internal DecodeBuffer(nint count)
    {
        _numbers = GC.AllocateUninitializedArray<float>(checked((int)count + (Line / sizeof(float))), pinned: true);
        _start = (Marshal.UnsafeAddrOfPinnedArrayElement(_numbers, 0) + Line - 1) / Line * Line;
        Count = count;
    }

    /// <summary>Number of elements.</summary>
    internal nint Count { get; }

    /// <summary>Address of the elements, valid while this object is referenced.</summary>
    internal float* Start => (float*)_start;

    /// <summary>The elements.</summary>
    internal Span<float> Span => new(Start, (int)Count);

    /// <summary>Copies the values of a tensor.</summary>
    internal static DecodeBuffer Of(Tensor tensor)
    {
        using var scope = NewDisposeScope();
        var values = tensor.detach().to(float32).cpu().contiguous();
        var numbers = new DecodeBuffer((nint)values.numel());
        MemoryMarshal.Cast<byte, float>(values.bytes).CopyTo(numbers.Span);
        return numbers;
    }
}
