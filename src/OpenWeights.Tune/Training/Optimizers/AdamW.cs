using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>
/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), in PyTorch's order of operations. Moments are float32 whatever the
/// parameter's dtype; a parameter of lower precision has a float32 master copy, so that small updates are not lost.
/// </summary>
public sealed class AdamW : IOptimizer
{
    private readonly List<Moments> _moments;
    private readonly double _beta1;
    private readonly double _beta2;
    private readonly double _weightDecay;
    private readonly Scalar _decay1;
    private readonly Scalar _rest1;
    private readonly Scalar _decay2;
    private readonly Scalar _rest2;
    private readonly Scalar _epsilon;

    /// <summary>An optimizer over parameters.</summary>
    /// <param name="parameters">What is trained.</param>
    /// <param name="beta1">The decay of the mean of gradients.</param>
    /// <param name="beta2">The decay of the mean of squared gradients.</param>
    /// <param name="epsilon">What keeps the denominator from being zero.</param>
    /// <param name="weightDecay">The decay of weights per unit of learning rate.</param>
    public AdamW(IEnumerable<TrainedParameter> parameters, double beta1, double beta2, double epsilon, double weightDecay)
    {
        (_beta1, _beta2, _weightDecay) = (beta1, beta2, weightDecay);
        (_decay1, _rest1, _decay2, _rest2, _epsilon) = (beta1, 1 - beta1, beta2, 1 - beta2, epsilon);
        using var nothing = no_grad();
        _moments = [.. parameters.Select(static p => new Moments(p))];
    }

    /// <inheritdoc/>
    public long StepCount { get; set; }

    /// <inheritdoc/>
    public IReadOnlyList<(string Name, Tensor State)> State => [.. _moments.SelectMany(static m => m.State)];

    /// <inheritdoc/>
    public void Step(double learningRate)
    {
        StepCount++;
        using var nothing = no_grad();
        using Scalar root = Math.Sqrt(1 - Math.Pow(_beta2, StepCount));
        foreach (var group in _moments.GroupBy(static m => m.Trained.RateFactor))
        {
            var rate = learningRate * group.Key;
            using Scalar decay = 1 - (rate * _weightDecay);
            using Scalar size = -rate / (1 - Math.Pow(_beta1, StepCount));
            foreach (var moments in group)
            {
                using var scope = NewDisposeScope();
                if (moments.Trained.Parameter.grad is { } gradient)
                {
                    Update(moments, gradient.to(float32), decay, root, size);
                }
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _moments.ForEach(static m => m.Dispose());
        _moments.Clear();
        foreach (var scalar in new[] { _decay1, _rest1, _decay2, _rest2, _epsilon })
        {
            scalar.Dispose();
        }
    }

    private void Update(Moments moments, Tensor gradient, Scalar decay, Scalar root, Scalar size)
    {
        var weight = moments.Master ?? moments.Trained.Parameter;
        if (moments.Trained.Decays && _weightDecay != 0)
        {
            _ = weight.mul_(decay);
        }

        _ = moments.Mean.mul_(_decay1).add_(gradient, _rest1);
        _ = moments.Square.mul_(_decay2).addcmul_(gradient, gradient, _rest2);
        var denominator = moments.Square.sqrt().div_(root).add_(_epsilon, Scalars.One);
        _ = weight.addcdiv_(moments.Mean, denominator, size);
        if (moments.Master is not null)
        {
            _ = moments.Trained.Parameter.copy_(weight);
        }
    }

    private sealed class Moments : IDisposable
    {
        internal Moments(TrainedParameter trained)
        {
            Trained = trained;
            Mean = trained.Parameter.zeros_like(float32).DetachFromDisposeScope();
            Square = trained.Parameter.zeros_like(float32).DetachFromDisposeScope();
            Master = trained.Parameter.dtype == float32 ? null : trained.Parameter.detach().to(float32, copy: true).DetachFromDisposeScope();
        }

        internal TrainedParameter Trained { get; }

        internal Tensor Mean { get; }

        internal Tensor Square { get; }

        internal Tensor? Master { get; }

        internal IEnumerable<(string, Tensor)> State
        {
            get
            {
                yield return ($"{Trained.Name}.exp_avg", Mean);
                yield return ($"{Trained.Name}.exp_avg_sq", Square);
                if (Master is not null)
                {
                    yield return ($"{Trained.Name}.master", Master);
                }
            }
        }

        public void Dispose()
        {
            Mean.Dispose();
            Square.Dispose();
            Master?.Dispose();
        }
    }
}
