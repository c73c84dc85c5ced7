using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Weights read from a checkpoint, each once, into its final dtype and place; linear layers below the head quantised, where that is asked for.</summary>
internal sealed class CheckpointWeightSource(ITensorSource checkpoint, ScalarType dtype, Device device, QuantizationSettings? quantization) : IWeightSource
{
    public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
    {
        var parameter = new Parameter(TensorFiles.Read(checkpoint, name, dtype, device), requires_grad: false);
        _ = parameter.DetachFromDisposeScope();
        return parameter;
    }

    public QuantizedWeight? TakeQuantized(string name, Dimension output, Dimension input)
    {
        if (quantization is null || name == "lm_head.weight")
        {
            return null;
        }

        // As the checkpoint stores it: only one layer at a time is here in full.
        using var weight = TensorFiles.Read(checkpoint, name, device: device);
        return quantization.Quantize(weight);
    }
}
