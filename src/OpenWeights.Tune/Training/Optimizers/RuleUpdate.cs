using System.Numerics;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>A step by a rule.</summary>
/// <typeparam name="TRule">The rule.</typeparam>
internal sealed unsafe class RuleUpdate<TRule>(ParameterSlot slot, Tensor weight, Tensor gradient, TRule rule) : FusedUpdate(slot, weight, gradient)
    where TRule : struct, IUpdateRule
{
    private protected override void Run(float* weight, float* gradient, float* first, float* second, int count, float gradientScale)
    {
        var (own, scale, whole) = (rule, new Vector<float>(gradientScale), count - (count % Vector<float>.Count));
        for (var i = 0; i < whole; i += Vector<float>.Count)
        {
            Apply(own, weight + i, gradient + i, first is null ? null : first + i, second is null ? null : second + i, scale);
        }

        if (whole < count)
        {
            Rest(own, weight + whole, gradient + whole, first is null ? null : first + whole, second is null ? null : second + whole, count - whole, scale);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Apply(in TRule rule, float* weight, float* gradient, float* first, float* second, Vector<float> scale)
    {
        var weights = Vector.Load(weight);
        var firsts = first is null ? default : Vector.Load(first);
        var seconds = second is null ? default : Vector.Load(second);
        rule.Apply(ref weights, Vector.Load(gradient) * scale, ref firsts, ref seconds);
        weights.Store(weight);
        if (first is not null)
        {
            firsts.Store(first);
        }

        if (second is not null)
        {
            seconds.Store(second);
        }
    }

    // Fewer elements than a vector holds go through a padded one: the same operations, so that it does not matter where an element stands.
    private static void Rest(in TRule rule, float* weight, float* gradient, float* first, float* second, int count, Vector<float> scale)
    {
        var width = Vector<float>.Count;
        var padded = stackalloc float[4 * width];
        new Span<float>(padded, 4 * width).Clear();
        var arrays = stackalloc float*[] { weight, gradient, first, second };
        for (var a = 0; a < 4; a++)
        {
            if (arrays[a] is not null)
            {
                new ReadOnlySpan<float>(arrays[a], count).CopyTo(new Span<float>(padded + (a * width), width));
            }
        }

        Apply(rule, padded, padded + width, padded + (2 * width), padded + (3 * width), scale);
        for (var a = 0; a < 4; a++)
        {
            if (arrays[a] is not null && a != 1)
            {
                new ReadOnlySpan<float>(padded + (a * width), count).CopyTo(new Span<float>(arrays[a], count));
            }
        }
    }
}
