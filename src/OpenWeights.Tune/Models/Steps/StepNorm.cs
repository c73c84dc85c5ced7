using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Models.Steps;

/// <summary>A root mean square norm, for single rows.</summary>
/// <param name="scale">What features are multiplied by.</param>
/// <param name="settings">How it computes.</param>
internal sealed unsafe class StepNorm(StepNumbers scale, NormSettings settings)
{
    /// <summary>Width of a row.</summary>
    internal nint Features => scale.Count;

    /// <summary>Normalises a row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="output">Where the result is written, perhaps over the row.</param>
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
            var scaled = StepMath.Round(Lanes.Read<Float32Elements>(row, i, count) * factor, half && !settings.ScalesBeforeRounding);
            Lanes.Write<Float32Elements>(output, i, count, StepMath.Round(scaled * Lanes.Read<Float32Elements>(scale.Start, i, count), half));
        }

        GC.KeepAlive(scale);
    }
}
