using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Adam's update with decoupled weight decay (Loshchilov and Hutter, 2019) of one tensor; several optimizers use it. In torch's order, weight
/// decay comes first and epsilon is added to the corrected second moment; in that of transformers' former AdamW, which GaLore, APOLLO and
/// LoRA-FA are written with, weight decay comes last and epsilon is added before the correction.
/// </summary>
internal sealed class AdamUpdate : IDisposable
{
    private readonly AdamSettings _settings;
    private readonly bool _asTransformers;
    private readonly Scalar _decay1;
    private readonly Scalar _rest1;
    private readonly Scalar _decay2;
    private readonly Scalar _rest2;
    private readonly Scalar _epsilon;

    /// <summary>Creates the update.</summary>
    /// <param name="settings">Hyperparameters.</param>
    /// <param name="asTransformers">Whether in the order of transformers' former AdamW.</param>
    internal AdamUpdate(AdamSettings settings, bool asTransformers = false)
    {
        (_settings, _asTransformers) = (settings, asTransformers);
        (_decay1, _rest1) = (settings.Beta1, 1 - settings.Beta1);
        (_decay2, _rest2, _epsilon) = (settings.Beta2, 1 - settings.Beta2, settings.Epsilon);
    }

    /// <summary>The moments of a parameter.</summary>
    internal static StateShape[] Moments(TrainedParameter trained) => [StateShape.Moment("exp_avg", trained), StateShape.Square("exp_avg_sq", trained)];

    /// <summary>Updates a weight and its moments, composed of torch operators.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="gradient">Its gradient.</param>
    /// <param name="moments">The two moments.</param>
    /// <param name="rate">The learning rate.</param>
    /// <param name="step">Number of the step, from 1.</param>
    /// <param name="decay">Weight decay coefficient.</param>
    internal void Apply(Tensor weight, Tensor gradient, (Tensor Mean, Tensor Square) moments, double rate, long step, double decay)
    {
        using Scalar factor = 1 - (rate * decay);
        using Scalar size = -Size(rate, step);
        if (!_asTransformers && decay != 0)
        {
            _ = weight.mul_(factor);
        }

        _ = weight.addcdiv_(moments.Mean, Denominator(gradient, moments, step), size);
        if (_asTransformers && decay != 0)
        {
            _ = weight.mul_(factor);
        }
    }

    /// <summary>The normalized gradient, mean / denominator, after updating the moments; the weight moves by it times <see cref="Size"/>.</summary>
    internal Tensor Normalized(Tensor gradient, (Tensor Mean, Tensor Square) moments, long step) => moments.Mean.div(Denominator(gradient, moments, step));

    /// <summary>Size of the step along the normalized gradient.</summary>
    internal double Size(double rate, long step)
    {
        var size = rate / (1 - Math.Pow(_settings.Beta1, step));
        return _asTransformers ? size * Root(step) : size;
    }

    /// <summary>The update in one pass over memory; null if not possible.</summary>
    internal FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate, long step, double decay)
    {
        var factor = 1 - (rate * decay);
        var rule = new Rule(_settings, _asTransformers ? (1, factor) : (factor, 1), _asTransformers ? 1 : Root(step), -Size(rate, step));
        return FusedUpdate.Of(slot, weight, gradient, rule);
    }

    public void Dispose()
    {
        foreach (var scalar in new[] { _decay1, _rest1, _decay2, _rest2, _epsilon })
        {
            scalar.Dispose();
        }
    }

    private double Root(long step) => Math.Sqrt(1 - Math.Pow(_settings.Beta2, step));

    private Tensor Denominator(Tensor gradient, (Tensor Mean, Tensor Square) moments, long step)
    {
        _ = moments.Mean.mul_(_decay1).add_(gradient, _rest1);
        _ = moments.Square.mul_(_decay2).addcmul_(gradient, gradient, _rest2);
        using Scalar root = Root(step);
        var square = moments.Square.sqrt();
        return (_asTransformers ? square : square.div_(root)).add_(_epsilon, Scalars.One);
    }

    private readonly struct Rule(AdamSettings settings, (double Before, double After) decay, double root, double size) : IUpdateRule
    {
        private readonly Vector256<float> _before = Vector256.Create((float)decay.Before);
        private readonly Vector256<float> _after = Vector256.Create((float)decay.After);
        private readonly Vector256<float> _decay1 = Vector256.Create((float)settings.Beta1);
        private readonly Vector256<float> _rest1 = Vector256.Create((float)(1 - settings.Beta1));
        private readonly Vector256<float> _decay2 = Vector256.Create((float)settings.Beta2);
        private readonly Vector256<float> _rest2 = Vector256.Create((float)(1 - settings.Beta2));
        private readonly Vector256<float> _root = Vector256.Create((float)root);
        private readonly Vector256<float> _epsilon = Vector256.Create((float)settings.Epsilon);
        private readonly Vector256<float> _size = Vector256.Create((float)size);

        public void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second, ref Vector256<float> third)
        {
            first = (first * _decay1) + (gradient * _rest1);
            second = (second * _decay2) + (gradient * gradient * _rest2);
            weight = ((weight * _before) + (_size * first / ((Vector256.Sqrt(second) / _root) + _epsilon))) * _after;
        }
    }
}

/// <summary>Hyperparameters of Adam.</summary>
/// <param name="Beta1">Decay rate of the first moment (mean of gradients).</param>
/// <param name="Beta2">Decay rate of the second moment (mean of squared gradients).</param>
/// <param name="Epsilon">Added to the denominator for numerical stability.</param>
/// <param name="WeightDecay">Weight decay; multiplied by the learning rate.</param>
internal sealed record AdamSettings(double Beta1, double Beta2, double Epsilon, double WeightDecay);
