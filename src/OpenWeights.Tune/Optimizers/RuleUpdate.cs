using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>The update of one parameter by a rule.</summary>
/// <typeparam name="TRule">The rule.</typeparam>
/// <typeparam name="TGradient">Memory format of the gradients.</typeparam>
internal sealed unsafe class RuleUpdate<TRule, TGradient>(ParameterSlot slot, Tensor weight, Tensor gradient, TRule rule) : FusedUpdate(slot, weight, gradient)
    where TRule : struct, IUpdateRule
    where TGradient : struct, IElements
{
    private protected override void Run(ArrayPart part, float gradientScale)
    {
        var (own, scale, count) = (rule, Vector256.Create(gradientScale), (nint)part.Count);
        var rest = Row<BFloat16Elements>(Rest, part.Start);
        var weight = rest is null ? Lanes.Row<Float32Elements>(Weight, part.Start) : Lanes.Row<BFloat16Elements>(Weight, part.Start);
        var gradient = Lanes.Row<TGradient>(Gradient, part.Start);
        var first = Row<Float32Elements>(First, part.Start);
        var second = Row<Float32Elements>(Second, part.Start);
        var rounded = Row<BFloat16Elements>(Rounded, part.Start);
        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var weights = rest is null ? Lanes.Read<Float32Elements>(weight, i, count) : SplitFloat.Read(weight, rest, i, count);
            var firsts = first is null ? default : Lanes.Read<Float32Elements>(first, i, count);
            var seconds = second is null ? default : Lanes.Read<Float32Elements>(second, i, count);
            own.Apply(ref weights, Lanes.Read<TGradient>(gradient, i, count) * scale, ref firsts, ref seconds);
            if (rest is null)
            {
                Lanes.Write<Float32Elements>(weight, i, count, weights);
            }
            else
            {
                SplitFloat.Write(weight, rest, i, count, weights);
            }

            if (first is not null)
            {
                Lanes.Write<Float32Elements>(first, i, count, firsts);
            }

            if (second is not null)
            {
                Lanes.Write<Float32Elements>(second, i, count, seconds);
            }

            if (rounded is not null)
            {
                Lanes.Write<BFloat16Elements>(rounded, i, count, weights);
            }
        }
    }

    private static void* Row<T>(nint start, long offset)
        where T : struct, IElements => start == 0 ? null : Lanes.Row<T>(start, offset);
}

/// <summary>An optimizer's element-wise formula. It is a struct, so that the compiler generates a specialized loop.</summary>
internal interface IUpdateRule
{
    /// <summary>Updates weights and state from gradients.</summary>
    /// <param name="weight">The weights.</param>
    /// <param name="gradient">Their gradients.</param>
    /// <param name="first">The first state; the result is ignored if the optimizer has none.</param>
    /// <param name="second">The second state; the result is ignored if the optimizer has none.</param>
    void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second);
}
