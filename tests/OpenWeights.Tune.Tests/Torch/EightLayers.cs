using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Tests.Torch;

/// <summary>Eight layers of a custom function that each keep a mebibyte for backward, and look at the memory in use there.</summary>
internal sealed class EightLayers : CustomFunction<EightLayers>
{
    internal const long Mebi = 1 << 20;

    internal const int Count = 8;

    /// <summary>The bytes in use at the start of each layer's backward, the last layer's first.</summary>
    /// <param name="device">Where they run.</param>
    /// <param name="live">The bytes in use now.</param>
    internal static List<long> Watch(Device device, Func<long> live)
    {
        var seen = new List<long>();
        using var scope = NewDisposeScope();
        var input = ones([Mebi / 4], device: device, requires_grad: true);
        var states = input;
        for (var i = 0; i < Count; i++)
        {
            states = Record(states, (Action)(() => seen.Add(live())))[0];
        }

        BackwardPass.Run([states.sum()]);
        return seen;
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        // 2 x, made of what nobody but the graph keeps.
        var kept = ((Tensor)inputs[0]).mul(((Tensor)inputs[0]).sign());
        context.save_for_backward([kept]);
        context.save_data("look", inputs[1]);
        return [kept.Plus(kept)];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        ((Action)context.get_data("look"))();
        return [gradients[0].Plus(gradients[0]).mul(context.get_saved_variables()[0].sign()), null];
    }
}
