using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.FeedForward;

/// <summary>
/// 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x³) (Hendrycks and Gimpel, 2016). TorchSharp does not expose libtorch's operator;
/// composed of other operators it would store seven tensors for backward, this stores one. Computed in float32.
/// </summary>
internal sealed class GeluTanh : CustomFunction<GeluTanh>
{
    private static readonly Scalar s_half = 0.5;
    private static readonly Scalar s_cubic = 0.044715;
    private static readonly Scalar s_threeCubic = 3 * 0.044715;
    private static readonly Scalar s_root = Math.Sqrt(2 / Math.PI);

    /// <summary>Applies the activation to each element.</summary>
    internal static Tensor Of(Tensor states) => states.requires_grad && is_grad_enabled() ? Record(states)[0] : Forward(states);

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var states = (Tensor)inputs[0];
        context.save_for_backward([states]);
        return [Forward(states)];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients) =>
        [InputGradient(context.get_saved_variables()[0], gradients[0])];

    private static Tensor InputGradient(Tensor states, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        var x = states.Widened();
        var tanh = Tanh(x);

        // 0.5 (1 + t) + 0.5 x (1 - t²) sqrt(2/pi) (1 + 3 0.044715 x²)
        var inner = x.mul(x).mul_(s_threeCubic).add_(Scalars.One, Scalars.One).mul_(s_root).mul_(x);
        var slope = tanh.mul(tanh).neg_().add_(Scalars.One, Scalars.One).mul_(inner).add_(tanh, Scalars.One).add_(Scalars.One, Scalars.One).mul_(s_half);
        return slope.mul_(gradient.Widened()).to(states.dtype).MoveToOuterDisposeScope();
    }

    private static Tensor Forward(Tensor states)
    {
        using var scope = NewDisposeScope();
        var x = states.Widened();
        return Tanh(x).add_(Scalars.One, Scalars.One).mul_(x).mul_(s_half).to(states.dtype).MoveToOuterDisposeScope();
    }

    private static Tensor Tanh(Tensor x)
    {
        using var scope = NewDisposeScope();
        return x.mul(x).mul_(s_cubic).add_(Scalars.One, Scalars.One).mul_(x).mul_(s_root).tanh_().MoveToOuterDisposeScope();
    }
}
