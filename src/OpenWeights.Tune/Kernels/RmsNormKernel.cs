using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// RMS normalization, and its gradients from the input and each row's factor. Factors are float64: of all roundings in a forward pass in float32,
/// theirs moves logits the most, because one number scales a whole row.
/// </summary>
internal static unsafe class RmsNormKernel
{
    /// <summary>Normalizes rows.</summary>
    /// <param name="input">The input, [..., features], contiguous.</param>
    /// <param name="scale">Scale of the features, [features], float32.</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="rounds">Whether the normalized row is rounded to its dtype before it is scaled.</param>
    /// <returns>The output, of the input's shape, and each row's normalization factor, [rows], float64.</returns>
    internal static (Tensor Output, Tensor Factors) Forward(Tensor input, Tensor scale, double epsilon, bool rounds)
    {
        var factors = empty([input.numel() / input.size(-1)], float64, input.device);
        var features = (nint)input.size(-1);
        var (x, f) = ((nint)CpuKernel.Pointer(input), (nint)CpuKernel.Pointer(factors));
        var half = input.dtype == ScalarType.BFloat16;
        CpuKernel.Run(factors.numel(), features, (first, last) =>
        {
            if (half)
            {
                Factors<BFloat16Elements>(x, (double*)f, features, epsilon, first, last);
            }
            else
            {
                Factors<Float32Elements>(x, (double*)f, features, epsilon, first, last);
            }
        });
        GC.KeepAlive(input);
        return (Again(input, scale, factors, rounds), factors);
    }

    /// <summary>Recomputes the output from each row's factor.</summary>
    internal static Tensor Again(Tensor input, Tensor scale, Tensor factors, bool rounds)
    {
        var output = empty(input.shape, input.dtype, input.device);
        var features = (nint)input.size(-1);
        var (x, s, y, f) = ((nint)CpuKernel.Pointer(input), (nint)CpuKernel.Pointer(scale), (nint)CpuKernel.Pointer(output), (nint)CpuKernel.Pointer(factors));
        var half = input.dtype == ScalarType.BFloat16;
        CpuKernel.Run(factors.numel(), features, (first, last) =>
        {
            for (var row = first; row < last; row++)
            {
                if (half)
                {
                    Scale<BFloat16Elements>(x, (float*)s, y, (float)((double*)f)[row], row, features, rounds);
                }
                else
                {
                    ScaleOnce((float*)x + (row * features), (float*)s, (float*)y + (row * features), ((double*)f)[row], features);
                }
            }
        });
        GC.KeepAlive((input, scale, factors));
        return output;
    }

    /// <summary>Gradients: f (s g - x f² mean(s g x)) for the input, the sum over rows of g x f for the scale.</summary>
    /// <param name="input">The input of forward.</param>
    /// <param name="scale">The scale of forward.</param>
    /// <param name="factors">The factors returned by forward.</param>
    /// <param name="gradient">Gradient of the output, of the input's shape and dtype, contiguous.</param>
    /// <param name="wantsScale">Whether the gradient of the scale is needed.</param>
    /// <returns>Gradient of the input, and of the scale, [features], float32.</returns>
    internal static (Tensor Input, Tensor? Scale) Backward(Tensor input, Tensor scale, Tensor factors, Tensor gradient, bool wantsScale)
    {
        var (rows, features) = (factors.numel(), (nint)input.size(-1));
        var parts = CpuKernel.Parts(rows, features);
        var result = empty(input.shape, input.dtype, input.device);
        var sums = wantsScale ? zeros([parts, features], float32, input.device) : null;
        var pointers = new Pointers(
            (nint)CpuKernel.Pointer(input), (nint)CpuKernel.Pointer(gradient), (nint)CpuKernel.Pointer(result), (nint)CpuKernel.Pointer(scale), sums is null ? 0 : (nint)CpuKernel.Pointer(sums));
        var f = (nint)CpuKernel.Pointer(factors);
        var half = input.dtype == ScalarType.BFloat16;
        CpuKernel.RunParts(parts, part =>
        {
            var own = pointers with { Sums = pointers.Sums == 0 ? 0 : pointers.Sums + (part * features * sizeof(float)) };
            for (var row = rows * part / parts; row < rows * (part + 1) / parts; row++)
            {
                if (half)
                {
                    Backward<BFloat16Elements>(own, (float)((double*)f)[row], row, features);
                }
                else
                {
                    Backward<Float32Elements>(own, (float)((double*)f)[row], row, features);
                }
            }
        });
        GC.KeepAlive((input, scale, factors, gradient));
        return (result, sums?.sum([0]));
    }

    private static void Factors<T>(nint x, double* factors, nint features, double epsilon, long first, long last)
        where T : struct, IElements
    {
        for (var row = first; row < last; row++)
        {
            factors[row] = 1 / Math.Sqrt((SquareSum<T>(Lanes.Row<T>(x, row * features), features) / features) + epsilon);
        }
    }

    /// <summary>The sum of squares of a row.</summary>
    internal static double SquareSum<T>(void* row, nint count)
        where T : struct, IElements
    {
        var (even, odd) = (Vector256<double>.Zero, Vector256<double>.Zero);
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var (lower, upper) = Vector256.Widen(Lanes.Read<T>(row, i, count));
            even = Vector256.MultiplyAddEstimate(lower, lower, even);
            odd = Vector256.MultiplyAddEstimate(upper, upper, odd);
        }

        return Vector256.Sum(even + odd);
    }

    /// <summary>Writes state · factor · scale, rounded once.</summary>
    /// <param name="states">The states of a row.</param>
    /// <param name="scale">Scale of the features.</param>
    /// <param name="output">Destination; may be the states.</param>
    /// <param name="factor">The row's factor.</param>
    /// <param name="features">Number of features.</param>
    internal static void ScaleOnce(float* states, float* scale, float* output, double factor, nint features)
    {
        var by = Vector256.Create(factor);
        for (nint i = 0; i < features; i += Lanes.Width)
        {
            var (lower, upper) = Vector256.Widen(Lanes.Read<Float32Elements>(states, i, features));
            var (lowerScale, upperScale) = Vector256.Widen(Lanes.Read<Float32Elements>(scale, i, features));
            Lanes.Write<Float32Elements>(output, i, features, Vector256.Narrow(lower * by * lowerScale, upper * by * upperScale));
        }
    }

    private static void Scale<T>(nint x, float* scale, nint y, float factor, long row, nint features, bool rounds)
        where T : struct, IElements
    {
        var (states, output) = ((nint)Lanes.Row<T>(x, row * features), (nint)Lanes.Row<T>(y, row * features));
        for (nint i = 0; i < features; i += Lanes.Width)
        {
            var scaled = Lanes.Read<T>((void*)states, i, features) * factor;
            Lanes.Write<T>((void*)output, i, features, (rounds ? T.Round(scaled) : scaled) * Lanes.Read<Float32Elements>(scale, i, features));
        }
    }

    private static void Backward<T>(in Pointers p, float factor, long row, nint features)
        where T : struct, IElements
    {
        var (x, g, dx) = ((nint)Lanes.Row<T>(p.States, row * features), (nint)Lanes.Row<T>(p.Gradient, row * features), (nint)Lanes.Row<T>(p.Result, row * features));
        var scale = (float*)p.Scale;
        var sums = (float*)p.Sums;
        var dot = Vector256<float>.Zero;
        for (nint i = 0; i < features; i += Lanes.Width)
        {
            dot += Lanes.Read<T>((void*)g, i, features) * Lanes.Read<Float32Elements>(scale, i, features) * Lanes.Read<T>((void*)x, i, features);
        }

        var share = Vector256.Sum(dot) / features * factor * factor;
        for (nint i = 0; i < features; i += Lanes.Width)
        {
            var (gradient, state) = (Lanes.Read<T>((void*)g, i, features), Lanes.Read<T>((void*)x, i, features));
            Lanes.Write<T>((void*)dx, i, features, ((gradient * Lanes.Read<Float32Elements>(scale, i, features)) - (state * share)) * factor);
            if (sums is not null)
            {
                Lanes.Write<Float32Elements>(sums, i, features, Lanes.Read<Float32Elements>(sums, i, features) + (gradient * state * factor));
            }
        }
    }

    private readonly record struct Pointers(nint States, nint Gradient, nint Result, nint Scale, nint Sums);
}
