using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Computes act(gate) · up in one pass, and its gradients in another.</summary>
internal static unsafe class GateKernel
{
    /// <summary>Whether two tensors, possibly halves of one, are supported.</summary>
    internal static bool Serves(Tensor gate, Tensor up, Activation activation) =>
        Serves(activation) && CpuKernel.ServesRows(gate) && CpuKernel.ServesRows(up) && gate.dtype == up.dtype
        && CpuKernel.RowStride(gate) is not null && CpuKernel.RowStride(up) is not null;

    /// <summary>act(gate) · up, contiguous, of the same shape.</summary>
    internal static Tensor Forward(Tensor gate, Tensor up, Activation activation)
    {
        var output = empty(gate.shape, gate.dtype, gate.device);
        Run(gate, up, null, activation, (output, null, null));
        return output;
    }

    /// <summary>Gradients of gate and up from that of the product, which is contiguous.</summary>
    /// <param name="gate">The gate.</param>
    /// <param name="up">The up projection.</param>
    /// <param name="gradient">Gradient of the product.</param>
    /// <param name="activation">The activation function.</param>
    /// <param name="overwrites">Whether the gradient of the gate overwrites that of the product; the product's dtype is then the
    /// gate's.</param>
    internal static (Tensor Gate, Tensor Up) Backward(Tensor gate, Tensor up, Tensor gradient, Activation activation, bool overwrites = false)
    {
        var gradGate = overwrites ? gradient.alias() : empty(gate.shape, gate.dtype, gate.device);
        var gradUp = empty(gate.shape, gate.dtype, gate.device);
        Run(gate, up, gradient, activation, (null, gradGate, gradUp));
        return (gradGate, gradUp);
    }

    private static void Run(Tensor gate, Tensor up, Tensor? gradient, Activation activation, (Tensor? Product, Tensor? Gate, Tensor? Up) results)
    {
        var width = gate.size(-1);
        var rows = width == 0 ? 0 : gate.numel() / width;
        var (gateStride, upStride) = (CpuKernel.RowStride(gate)!.Value, CpuKernel.RowStride(up)!.Value);
        static nint At(Tensor? tensor) => tensor is null ? 0 : (nint)CpuKernel.Pointer(tensor);
        var start = new Row(At(gate), At(up), At(gradient), At(results.Product), At(results.Gate), At(results.Up), (nint)width);
        var half = gate.dtype == ScalarType.BFloat16;
        var silu = activation == Activation.Silu;
        CpuKernel.Run(rows, width, (first, last) =>
        {
            for (var row = first; row < last; row++)
            {
                if (half)
                {
                    Work<BFloat16Elements>(start.At<BFloat16Elements>(row, gateStride, upStride), silu);
                }
                else
                {
                    Work<Float32Elements>(start.At<Float32Elements>(row, gateStride, upStride), silu);
                }
            }
        });
        GC.KeepAlive((gate, up, gradient, results));
    }

    private static void Work<T>(in Row r, bool silu)
        where T : struct, IElements
    {
        for (nint i = 0; i < r.Width; i += Lanes.Width)
        {
            var (gate, up) = (Lanes.Read<T>((void*)r.Gate, i, r.Width), Lanes.Read<T>((void*)r.Up, i, r.Width));
            var (active, slope) = silu ? Silu(gate) : GeluTanh(gate);
            active = T.Round(active);
            if (r.Product != 0)
            {
                Lanes.Write<T>((void*)r.Product, i, r.Width, active * up);
            }

            if (r.GradGate != 0)
            {
                // Read before the gate's gradient may overwrite it.
                var gradient = Lanes.Read<T>((void*)r.Gradient, i, r.Width);
                Lanes.Write<T>((void*)r.GradUp, i, r.Width, gradient * active);
                Lanes.Write<T>((void*)r.GradGate, i, r.Width, T.Round(gradient * up) * slope);
            }
        }
    }

    /// <summary>The activation of a vector; it must be one that <see cref="Serves(Activation)"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<float> Apply(Vector256<float> x, Activation activation) => (activation == Activation.Silu ? Silu(x) : GeluTanh(x)).Value;

    /// <summary>Whether an activation function is supported.</summary>
    internal static bool Serves(Activation activation) => activation is Activation.Silu or Activation.GeluTanh;

    // x s(x), and s (1 + x (1 - s)).
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<float> Value, Vector256<float> Slope) Silu(Vector256<float> x)
    {
        var sigmoid = Vector256<float>.One / (Vector256<float>.One + VectorFunctions.Exponential<Vectors256, Vector256<float>>(-x));
        return (x * sigmoid, sigmoid * (Vector256<float>.One + (x * (Vector256<float>.One - sigmoid))));
    }

    // 0.5 x (1 + t) with t = tanh(sqrt(2/pi) (x + 0.044715 x³)), and 0.5 (1 + t) + 0.5 x (1 - t²) sqrt(2/pi) (1 + 3 0.044715 x²).
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<float> Value, Vector256<float> Slope) GeluTanh(Vector256<float> x)
    {
        var root = Vector256.Create(0.79788456f);
        var square = x * x * 0.044715f;
        var inner = root * x * (Vector256<float>.One + square);

        // (1 + tanh u) / 2 is the logistic function of 2 u.
        var half = Vector256<float>.One / (Vector256<float>.One + VectorFunctions.Exponential<Vectors256, Vector256<float>>(inner * -2));
        return (x * half, half + (x * half * (Vector256<float>.One - half) * 2 * root * (Vector256<float>.One + (square * 3))));
    }

    /// <summary>Addresses of a row in each tensor; 0 for tensors that are not used.</summary>
    private readonly record struct Row(nint Gate, nint Up, nint Gradient, nint Product, nint GradGate, nint GradUp, nint Width)
    {
        internal Row At<T>(long row, long gateStride, long upStride)
            where T : struct, IElements
        {
            var place = row * Width;
            return new Row(
                Moved<T>(Gate, row * gateStride), Moved<T>(Up, row * upStride), Moved<T>(Gradient, place), Moved<T>(Product, place), Moved<T>(GradGate, place), Moved<T>(GradUp, place), Width);
        }

        private static nint Moved<T>(nint start, long offset)
            where T : struct, IElements => start == 0 ? 0 : (nint)Lanes.Row<T>(start, offset);
    }
}

/// <summary>Activation function of a feed-forward block's gate.</summary>
public enum Activation
{
    /// <summary>SiLU, x sigmoid(x) (SwiGLU; Shazeer, 2020).</summary>
    Silu,

    /// <summary>GELU, x Φ(x), with the error function (Hendrycks and Gimpel, 2016).</summary>
    Gelu,

    /// <summary>Tanh approximation of GELU, gelu_pytorch_tanh.</summary>
    GeluTanh,
}
