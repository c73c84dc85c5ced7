using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Adapter weights with a shape but no memory, for estimating a run's memory.</summary>
internal sealed class MetaAdapterWeights(CausalLanguageModel model, LoraConfig config) : MetaTensors(model), IAdapterWeights
{
    public override Parameter? Frozen(string fileName, WeightSlot slot) => config.VocabularySize is { } tokens && slot.Own is { } own && tokens > own.size(0)
        ? Parameter(MetaWeightSource.Zeros(own.dtype, Model.Device, tokens, own.size(1)), trained: false)
        : null;

    public LoraWeights Linear(string module, LinearLayer layer, int rank)
    {
        using var scope = NewDisposeScope();
        Tensor Kept(params long[] shape) => scope.Detach(MetaWeightSource.Zeros(float32, Model.Device, shape));
        var ((a, b), starts) = (LoraForms.Shapes(config, module, layer, rank), config.Kasa is not null || LoraStarts.SubtractsStart(config.Init));
        return new LoraWeights(Kept(a), Kept(b))
        {
            Blocks = config.BlockDiagonal?.Of(module),
            Diagonal = config.Kasa is null ? null : Kept(rank),
            TrainsB = config.Init != LoraInit.Mica,
            Base = config.Init == LoraInit.Loftq && layer.Quantized is null ? scope.Detach(MetaWeightSource.Zeros(Model.DType, Model.Device, layer.OutFeatures, layer.InFeatures)) : null,
            OutputBias = config.LoraBias ? Kept(layer.OutFeatures) : null,
            Magnitude = config.UseDora ? Kept(layer.OutFeatures) : null,
            Start = starts ? (Kept(rank, layer.InFeatures), Kept(layer.OutFeatures, rank)) : null,
        };
    }

    public (Tensor A, Tensor B, Tensor? Magnitude) Embedding(string module, TokenEmbedding layer, int rank)
    {
        using var scope = NewDisposeScope();
        return (
            scope.Detach(MetaWeightSource.Zeros(float32, Model.Device, rank, layer.Weight.size(0))),
            scope.Detach(MetaWeightSource.Zeros(float32, Model.Device, layer.Weight.size(1), rank)),
            config.UseDora ? scope.Detach(MetaWeightSource.Zeros(float32, Model.Device, layer.Weight.size(1))) : null);
    }

    public Tensor Rows(string fileName, nn.Module module, IReadOnlyList<int> tokens)
    {
        using var scope = NewDisposeScope();
        return scope.Detach(MetaWeightSource.Zeros(float32, Model.Device, tokens.Count, Model.Config.HiddenSize));
    }

    public (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank)
    {
        using var scope = NewDisposeScope();
        var ((input, output), ranks) = (matrix.UpdateFeatures, (long)rank * matrix.Count);
        return (scope.Detach(MetaWeightSource.Zeros(float32, Model.Device, ranks, input)), scope.Detach(MetaWeightSource.Zeros(float32, Model.Device, output, ranks)));
    }
}
