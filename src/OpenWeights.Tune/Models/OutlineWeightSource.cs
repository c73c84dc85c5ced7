using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Weights that have a shape and no memory: one zero, seen as often as the shape asks. For work on a model's outline, such as
/// finding the layers of an adapter.</summary>
internal sealed class OutlineWeightSource : IWeightSource
{
    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
    {
        using var scope = NewDisposeScope();
        var sizes = new long[shape.Length];
        for (var i = 0; i < sizes.Length; i++)
        {
            sizes[i] = shape[i].Size;
        }

        var parameter = new Parameter(zeros([1], float32).expand(sizes), requires_grad: false);
        _ = parameter.DetachFromDisposeScope();
        return parameter;
    }
}
