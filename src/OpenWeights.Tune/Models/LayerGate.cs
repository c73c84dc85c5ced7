using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Models;

/// <summary>
/// The identity, at the input of a layer: its backward pass says that the layer's is done. Nodes of the layer were made after this one, and gradients of
/// parameters are accumulated before anything else, so that those of the layer and of all later ones are complete, except of parameters that earlier layers use too.
/// </summary>
internal sealed class LayerGate : CustomFunction<LayerGate>
{
    /// <summary>Passes the input of a layer.</summary>
    /// <param name="states">The input.</param>
    /// <param name="layer">Index of the layer.</param>
    /// <param name="passed">Called in the backward pass, with the index.</param>
    internal static Tensor Run(Tensor states, int layer, Action<int> passed) => Record(states, new Gate(layer, passed))[0];

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        context.save_data("gate", inputs[1]);
        return [((Tensor)inputs[0]).alias()];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var gate = (Gate)context.get_data("gate");
        gate.Passed(gate.Layer);
        return [gradients[0], null];
    }

    private sealed record Gate(int Layer, Action<int> Passed);
}
