using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>The update of one parameter by a rule, with float32 state.</summary>
/// <typeparam name="TRule">The rule.</typeparam>
/// <typeparam name="TGradient">Memory format of the gradients.</typeparam>
internal sealed unsafe class RuleUpdate<TRule, TGradient>(ParameterSlot slot, Tensor weight, Tensor gradient, TRule rule) : FusedUpdate(slot, weight, gradient)
    where TRule : struct, IUpdateRule
    where TGradient : struct, IElements
{
    private protected override void Run(ArrayPart part, float gradientScale)
    {
        var (own, scale, count) = (rule, Vector256.Create(gradientScale), (nint)part.Count);
        var weights = new WeightRow(Weight, Rest, Rounded, part.Start);
        var gradient = Lanes.Row<TGradient>(Gradient, part.Start);
        var (first, second, third) = ((nint)Row(States[0], part.Start), (nint)Row(States[1], part.Start), (nint)Row(States[2], part.Start));
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var values = weights.Read(i, count);
            var firsts = first == 0 ? default : Lanes.Read<Float32Elements>((void*)first, i, count);
            var seconds = second == 0 ? default : Lanes.Read<Float32Elements>((void*)second, i, count);
            var thirds = third == 0 ? default : Lanes.Read<Float32Elements>((void*)third, i, count);
            own.Apply(ref values, Lanes.Read<TGradient>(gradient, i, count) * scale, ref firsts, ref seconds, ref thirds);
            weights.Write(i, count, values);
            if (first != 0)
            {
                Lanes.Write<Float32Elements>((void*)first, i, count, firsts);
            }

            if (second != 0)
            {
                Lanes.Write<Float32Elements>((void*)second, i, count, seconds);
            }

            if (third != 0)
            {
                Lanes.Write<Float32Elements>((void*)third, i, count, thirds);
            }
        }
    }

    private static void* Row(nint start, long offset) => start == 0 ? null : Lanes.Row<Float32Elements>(start, offset);
}

/// <summary>The weights of a part, in each of the ways in which they are stored.</summary>
internal readonly unsafe struct WeightRow
{
    private readonly void* _weight;
    private readonly void* _rest;
    private readonly void* _rounded;

    /// <summary>The weights from an element on.</summary>
    /// <param name="weight">Address of the float32 weights, or of their bfloat16 upper half.</param>
    /// <param name="rest">Address of the lower half, or 0.</param>
    /// <param name="rounded">Address of a bfloat16 copy, or 0.</param>
    /// <param name="start">First element.</param>
    internal WeightRow(nint weight, nint rest, nint rounded, long start)
    {
        _rest = rest == 0 ? null : Lanes.Row<BFloat16Elements>(rest, start);
        _weight = rest == 0 ? Lanes.Row<Float32Elements>(weight, start) : Lanes.Row<BFloat16Elements>(weight, start);
        _rounded = rounded == 0 ? null : Lanes.Row<BFloat16Elements>(rounded, start);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal Vector256<float> Read(nint index, nint count) =>
        _rest is null ? Lanes.Read<Float32Elements>(_weight, index, count) : SplitFloat.Read(_weight, _rest, index, count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Write(nint index, nint count, Vector256<float> values)
    {
        if (_rest is null)
        {
            Lanes.Write<Float32Elements>(_weight, index, count, values);
        }
        else
        {
            SplitFloat.Write(_weight, _rest, index, count, values);
        }

        if (_rounded is not null)
        {
            Lanes.Write<BFloat16Elements>(_rounded, index, count, values);
        }
    }
}

/// <summary>An optimizer's element-wise formula. It is a struct, so that the compiler generates a specialized loop.</summary>
internal interface IUpdateRule
{
    /// <summary>Updates weights and state from gradients.</summary>
    /// <param name="weight">The weights.</param>
    /// <param name="gradient">Their gradients.</param>
    /// <param name="first">The first state; the result is ignored if the optimizer has none.</param>
    /// <param name="second">The second state; the result is ignored if the optimizer has none.</param>
    /// <param name="third">The third state; the result is ignored if the optimizer has none.</param>
    void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second, ref Vector256<float> third);
}
