using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>An optimizer's formula for elements side by side: a struct, so that each gets a loop of its own from the compiler.</summary>
internal interface IUpdateRule
{
    /// <summary>Changes weights and what is remembered of their gradients.</summary>
    /// <param name="weight">The weights.</param>
    /// <param name="gradient">Their gradients.</param>
    /// <param name="first">The first state; what is written counts only where the optimizer has one.</param>
    /// <param name="second">The second state, likewise.</param>
    void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second);
}
