using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>The update of one parameter by a rule, with 8-bit state, one block of codes at a time.</summary>
/// <typeparam name="TRule">The rule.</typeparam>
/// <typeparam name="TGradient">Memory format of the gradients.</typeparam>
internal sealed unsafe class CodedUpdate<TRule, TGradient>(ParameterSlot slot, Tensor weight, Tensor gradient, TRule rule) : FusedUpdate(slot, weight, gradient)
    where TRule : struct, IUpdateRule
    where TGradient : struct, IElements
{
    private const int Block = StateCodes.BlockSize;

    private readonly nint[] _scales = [.. slot.Stored.Select(static s => (nint)CpuKernel.Pointer(s.Scales!))];
    private readonly byte[][] _tables = [.. slot.Stored.Select(static s => DynamicCode.TableOf(s.IsSigned))];
    private readonly float[][] _levels = [.. slot.Stored.Select(static s => DynamicCode.LevelsOf(s.IsSigned))];

    private protected override void Run(ArrayPart part, float gradientScale)
    {
        var values = stackalloc float[MaxStates * Block];
        for (long start = 0; start < part.Count; start += Block)
        {
            var (at, count) = (part.Start + start, (int)Math.Min(Block, part.Count - start));
            new Span<float>(values, MaxStates * Block).Clear();
            for (var i = 0; i < _scales.Length; i++)
            {
                StateCodes.DecodeBlock((byte*)States[i] + at, ((float*)_scales[i])[at / Block], _levels[i], values + (i * Block), count);
            }

            Apply(at, count, gradientScale, values);
            for (var i = 0; i < _scales.Length; i++)
            {
                ((float*)_scales[i])[at / Block] = StateCodes.EncodeBlock(values + (i * Block), count, _tables[i], (byte*)States[i] + at);
            }
        }
    }

    private void Apply(long start, int count, float gradientScale, float* states)
    {
        var (own, scale) = (rule, Vector256.Create(gradientScale));
        var weights = new WeightRow(Weight, Rest, Rounded, start);
        var gradient = Lanes.Row<TGradient>(Gradient, start);
        for (var i = 0; i < count; i += Lanes.Width)
        {
            var values = weights.Read(i, count);
            var (firsts, seconds, thirds) = (Vector256.Load(states + i), Vector256.Load(states + Block + i), Vector256.Load(states + (2 * Block) + i));
            own.Apply(ref values, Lanes.Read<TGradient>(gradient, i, count) * scale, ref firsts, ref seconds, ref thirds);
            weights.Write(i, count, values);
            firsts.Store(states + i);
            seconds.Store(states + Block + i);
            thirds.Store(states + (2 * Block) + i);
        }
    }
}
