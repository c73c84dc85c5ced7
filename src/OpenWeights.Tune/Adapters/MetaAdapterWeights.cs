using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Adapter weights with a shape but no memory, for estimating a run's memory.</summary>
internal sealed class MetaAdapterWeights(CausalLanguageModel model, LoraConfig config) : MetaTensors(model), IAdapterWeights
{
    public LoraWeights Linear(string module, LinearLayer layer, int rank)
    {
        using var scope = NewDisposeScope();
        Tensor Kept(params long[] shape) => scope.Detach(MetaWeightSource.Zeros(float32, Device, shape));
        return new LoraWeights(Kept(rank, layer.InFeatures), Kept(layer.OutFeatures, rank))
        {
            OutputBias = config.LoraBias ? Kept(layer.OutFeatures) : null,
            Magnitude = config.UseDora ? Kept(layer.OutFeatures) : null,
            Start = config.Init == LoraInit.Pissa ? (Kept(rank, layer.InFeatures), Kept(layer.OutFeatures, rank)) : null,
        };
    }

    public (Tensor A, Tensor B) Embedding(string module, TokenEmbedding layer, int rank)
    {
        using var scope = NewDisposeScope();
        return (
            scope.Detach(MetaWeightSource.Zeros(float32, Device, rank, layer.Weight.size(0))),
            scope.Detach(MetaWeightSource.Zeros(float32, Device, layer.Weight.size(1), rank)));
    }

    public (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank)
    {
        using var scope = NewDisposeScope();
        var ((input, output), ranks) = (matrix.UpdateFeatures, (long)rank * matrix.Count);
        return (scope.Detach(MetaWeightSource.Zeros(float32, Device, ranks, input)), scope.Detach(MetaWeightSource.Zeros(float32, Device, output, ranks)));
    }
}
