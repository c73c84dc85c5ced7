using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Row operations of a decode step, in float32; each result is rounded as in the model's dtype.</summary>
internal static unsafe class DecodeMath
{
    /// <summary>Rounds values to the model's dtype.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<float> Round(Vector256<float> values, bool half) => half ? BFloat16Elements.Round(values) : values;

    /// <summary>Rounds a value to the model's dtype.</summary>
    internal static float Round(float value, bool half) => half ? BFloat16Elements.Round(Vector256.CreateScalar(value))[0] : value;

    /// <summary>Rounds a row in place.</summary>
    internal static void Round(float* row, nint count, bool half)
    {
        for (nint i = 0; half && i < count; i += Lanes.Width)
        {
            Lanes.Write<Float32Elements>(row, i, count, BFloat16Elements.Round(Lanes.Read<Float32Elements>(row, i, count)));
        }
    }

    /// <summary>states += factor · added.</summary>
    internal static void Add(float* states, float* added, float factor, nint count, bool half)
    {
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var sum = Lanes.Read<Float32Elements>(states, i, count) + (Lanes.Read<Float32Elements>(added, i, count) * factor);
            Lanes.Write<Float32Elements>(states, i, count, Round(sum, half));
        }
    }

    /// <summary>gate = act(gate) · up.</summary>
    internal static void Gate(float* gate, float* up, nint count, Activation activation, bool half)
    {
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var x = Lanes.Read<Float32Elements>(gate, i, count);
            var active = activation == Activation.Silu ? Silu(x) : Active(x, activation);
            Lanes.Write<Float32Elements>(gate, i, count, Round(Round(active, half) * Lanes.Read<Float32Elements>(up, i, count), half));
        }
    }

    /// <summary>row = act(row).</summary>
    internal static void Activate(float* row, nint count, Activation activation, bool half)
    {
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            Lanes.Write<Float32Elements>(row, i, count, Round(Active(Lanes.Read<Float32Elements>(row, i, count), activation), half));
        }
    }

    /// <summary>row *= factor.</summary>
    internal static void Multiply(float* row, nint count, float factor, bool half)
    {
        RowSoftmax.Scale(row, count, factor);
        Round(row, count, half);
    }

    /// <summary>Whether <see cref="Gate"/> and <see cref="Activate"/> compute an activation.</summary>
    internal static bool Serves(Activation activation) => activation is Activation.Silu or Activation.GeluTanh or Activation.Relu or Activation.ReluSquared;

    private static Vector256<float> Active(Vector256<float> x, Activation activation) => activation switch
    {
        Activation.Silu => Silu(x),
        Activation.GeluTanh => GeluTanh(x),
        Activation.Relu => Vector256.Max(x, Vector256<float>.Zero),
        _ => Square(Vector256.Max(x, Vector256<float>.Zero)),
    };

    private static Vector256<float> Square(Vector256<float> x) => x * x;

    private static Vector256<float> Silu(Vector256<float> x) =>
        x / (Vector256<float>.One + VectorFunctions.Exponential<Vectors256, Vector256<float>>(-x));

    // 0.5 x (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x³); (1 + tanh u) / 2 is the logistic function of 2 u.
    private static Vector256<float> GeluTanh(Vector256<float> x)
    {
        var inner = Vector256.Create(0.79788456f) * x * (Vector256<float>.One + (x * x * 0.044715f));
        return x / (Vector256<float>.One + VectorFunctions.Exponential<Vectors256, Vector256<float>>(inner * -2));
    }

    /// <summary>Puts the first of each interleaved pair before the second of each, as <see cref="Turn"/> reads them.</summary>
    /// <param name="head">The head.</param>
    /// <param name="pairs">Number of pairs, half of the rotated features.</param>
    internal static void Separate(float* head, nint pairs)
    {
        var second = stackalloc float[(int)pairs];
        for (nint i = 0; i < pairs; i++)
        {
            (head[i], second[i]) = (head[2 * i], head[(2 * i) + 1]);
        }

        new Span<float>(second, (int)pairs).CopyTo(new Span<float>(head + pairs, (int)pairs));
    }

    /// <summary>Applies the rotary embedding to a head in place (split-half layout).</summary>
    /// <param name="head">The head.</param>
    /// <param name="cos">The cosines.</param>
    /// <param name="sin">The sines.</param>
    /// <param name="turned">Number of cosines, half of the rotated features.</param>
    /// <param name="half">Whether the model is in bfloat16.</param>
    internal static void Turn(float* head, float* cos, float* sin, nint turned, bool half)
    {
        var right = head + turned;
        for (nint i = 0; i < turned; i += Lanes.Width)
        {
            var (c, s) = (Lanes.Read<Float32Elements>(cos, i, turned), Lanes.Read<Float32Elements>(sin, i, turned));
            var (first, second) = (Lanes.Read<Float32Elements>(head, i, turned), Lanes.Read<Float32Elements>(right, i, turned));
            Lanes.Write<Float32Elements>(head, i, turned, Round(Round(first * c, half) - Round(second * s, half), half));
            Lanes.Write<Float32Elements>(right, i, turned, Round(Round(second * c, half) + Round(first * s, half), half));
        }
    }

    /// <summary>Stores a row in the model's dtype.</summary>
    internal static void Write(float* row, nint count, void* to, bool half)
    {
        if (!half)
        {
            new Span<float>(row, (int)count).CopyTo(new Span<float>(to, (int)count));
            return;
        }

        for (nint i = 0; i < count; i += Lanes.Width)
        {
            Lanes.Write<BFloat16Elements>(to, i, count, Lanes.Read<Float32Elements>(row, i, count));
        }
    }

    /// <summary>Loads a row in the model's dtype.</summary>
    internal static void Read(void* from, nint count, float* row, bool half)
    {
        if (!half)
        {
            new Span<float>(from, (int)count).CopyTo(new Span<float>(row, (int)count));
            return;
        }

        for (nint i = 0; i < count; i += Lanes.Width)
        {
            Lanes.Write<Float32Elements>(row, i, count, Lanes.Read<BFloat16Elements>(from, i, count));
        }
    }
}
