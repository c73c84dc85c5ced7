using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Norm of single rows, or of each head of a row.</summary>
/// <param name="scale">Weights of the features, or of the features of each head.</param>
/// <param name="bias">Bias of the features; null for none.</param>
/// <param name="settings">How the norm computes.</param>
internal sealed unsafe class DecodeNorm(DecodeBuffer scale, DecodeBuffer? bias, DecodeNormSettings settings)
{
    /// <summary>Number of features.</summary>
    internal nint Features => settings.Features;

    /// <summary>Creates the norm of a module; null if it is not supported.</summary>
    /// <param name="module">The norm.</param>
    internal static DecodeNorm? Of(Norm module) => module switch
    {
        RmsNorm norm => new DecodeNorm(Scale(norm.Scale, norm.Features, norm.Settings.AddsOne), null, new(norm.Features, norm.Settings.Epsilon, false, !norm.Settings.ScalesBeforeRounding)),
        LayerNorm norm => OfLayerNorm(norm.Scale, norm.Bias, norm.Settings),
        HeadLayerNorms norms => OfLayerNorm(norms.Scale, null, norms.Settings),
        _ => null,
    };

    /// <summary>Normalizes a row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="output">Destination; may be the row itself.</param>
    /// <param name="half">Whether the model is in bfloat16.</param>
    /// <param name="head">Index of the head, if each has its own weights; otherwise 0.</param>
    internal void Apply(float* row, float* output, bool half, nint head = 0)
    {
        var (count, mean) = (Features, settings.Centers ? Mean(row) : 0);
        var factor = 1 / Math.Sqrt((SquareSum(row, mean) / count) + settings.Epsilon);
        var weights = scale.Start + (scale.Count == count ? 0 : head * count);
        if (!half && !settings.Centers)
        {
            RmsNormKernel.ScaleOnce(row, weights, output, factor, count);
        }
        else
        {
            Scale(row, output, (mean, (float)factor), weights, half);
        }

        GC.KeepAlive((scale, bias));
    }

    private void Scale(float* row, float* output, (float Mean, float Factor) by, float* weights, bool half)
    {
        var (count, center) = (Features, Vector256.Create(by.Mean));
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var scaled = DecodeMath.Round((Lanes.Read<Float32Elements>(row, i, count) - center) * by.Factor, half && settings.RoundsBeforeScale);
            scaled *= Lanes.Read<Float32Elements>(weights, i, count);
            Lanes.Write<Float32Elements>(output, i, count, DecodeMath.Round(bias is null ? scaled : scaled + Lanes.Read<Float32Elements>(bias.Start, i, count), half));
        }
    }

    private double SquareSum(float* row, float mean)
    {
        if (!settings.Centers)
        {
            return RmsNormKernel.SquareSum<Float32Elements>(row, Features);
        }

        var (center, sum, i) = (Vector256.Create(mean), Vector256<float>.Zero, (nint)0);
        for (; i <= Features - Lanes.Width; i += Lanes.Width)
        {
            var state = Lanes.Read<Float32Elements>(row, i, Features) - center;
            sum += state * state;
        }

        var all = Vector256.Sum(sum);
        for (; i < Features; i++)
        {
            all += (row[i] - mean) * (row[i] - mean);
        }

        return all;
    }

    private float Mean(float* row)
    {
        var sum = Vector256<float>.Zero;
        for (nint i = 0; i < Features; i += Lanes.Width)
        {
            sum += Lanes.Read<Float32Elements>(row, i, Features);
        }

        return Vector256.Sum(sum) / Features;
    }

    private static DecodeNorm OfLayerNorm(Tensor scale, Tensor? bias, LayerNormSettings settings)
    {
        using var scope = NewDisposeScope();

        // One is added in the model's dtype.
        var weight = settings.AddsOne ? scale.detach().add(Scalars.One, Scalars.One) : scale;
        var rounds = scale.ndim > 1 && !settings.ScalesBeforeRounding;
        return new DecodeNorm(DecodeBuffer.Of(weight), bias is null ? null : DecodeBuffer.Of(bias), new((nint)scale.size(-1), settings.Epsilon, Centers: true, rounds));
    }

    private static DecodeBuffer Scale(Tensor? weight, nint features, bool addsOne)
    {
        var scale = weight is null ? new DecodeBuffer(features) : DecodeBuffer.Of(weight);
        if (weight is null)
        {
            scale.Span.Fill(1);
        }

        for (var i = 0; addsOne && i < scale.Count; i++)
        {
            scale.Span[i] += 1;
        }

        return scale;
    }
}

/// <summary>How a norm of single rows computes.</summary>
/// <param name="Features">Number of features.</param>
/// <param name="Epsilon">Added to the mean square or variance.</param>
/// <param name="Centers">Whether the mean is subtracted.</param>
/// <param name="RoundsBeforeScale">Whether the normalized row is rounded to the model's dtype before it is scaled.</param>
internal readonly record struct DecodeNormSettings(nint Features, double Epsilon, bool Centers, bool RoundsBeforeScale);

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
