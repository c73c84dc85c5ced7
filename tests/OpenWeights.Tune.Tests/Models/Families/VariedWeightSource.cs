using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>Random weights that leave nothing out: norms are not one, biases are not zero, and scores are far from even.</summary>
internal sealed class VariedWeightSource(ulong seed) : IWeightSource, IDisposable
{
    private readonly Generator _generator = new(seed);

    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
    {
        using var scope = NewDisposeScope();
        long[] sizes = [.. shape.ToArray().Select(static d => d.Size)];
        var weight = empty(sizes, float32).normal_(initial == InitialWeight.Ones ? 1 : 0, initial is InitialWeight.Normal or InitialWeight.Convolution ? 1.2 / Math.Sqrt(sizes[^1]) : 0.3, _generator);
        var parameter = new Parameter(weight.alias().to(TestDevice.Current), requires_grad: false);
        _ = parameter.DetachFromDisposeScope();
        return parameter;
    }

    public void Dispose() => _generator.Dispose();
}
