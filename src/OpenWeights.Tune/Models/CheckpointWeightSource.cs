using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Weights read from a checkpoint, each once, into its final dtype and place.</summary>
internal sealed class CheckpointWeightSource(ITensorSource checkpoint, ScalarType dtype, Device device) : IWeightSource
{
    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
    {
        var parameter = new Parameter(TensorFiles.Read(checkpoint, name, dtype, device), requires_grad: false);
        _ = parameter.DetachFromDisposeScope();
        return parameter;
    }
}
