using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Initial weights of a new adapter, as in PEFT.</summary>
internal sealed class FreshWeights(CausalLanguageModel model, LoraConfig config, Generator generator, StartFindings? findings = null) : FreshTensors(model, generator), IAdapterWeights
{
    public LoraWeights Linear(string module, LinearLayer layer, int rank)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var context = new StartContext(module, layer, rank, config.ScaleOf(config.PatternName(module)), config) { Device = Device, Generator = Random, Findings = findings, Original = FileWeights.Original(Model) };
        var weights = LoraForms.Fresh(context, LoraStarts.Make(context));
        using Scalar scale = context.Scale;
        return weights with
        {
            OutputBias = config.LoraBias ? scope.Detach(zeros([layer.OutFeatures], float32, Device)) : null,
            Magnitude = config.UseDora ? LoraLayer.RowNorms(layer, weights.A, weights.B, scale).DetachFromDisposeScope() : null,
        };
    }

    public (Tensor A, Tensor B, Tensor? Magnitude) Embedding(string module, TokenEmbedding layer, int rank)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var a = zeros([rank, layer.Weight.size(0)], float32, Device);
        var b = empty([layer.Weight.size(1), rank], float32).normal_(0, 1, Random).to(float32, Device);

        // A is zero, so that the norms are the weight's own.
        return (scope.Detach(a), scope.Detach(b), config.UseDora ? scope.Detach(layer.Weight.detach().to(float32).norm(0)) : null);
    }

    public Tensor Rows(string fileName, nn.Module module, IReadOnlyList<int> tokens)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var indices = tensor([.. tokens.Select(static t => (long)t)], [tokens.Count]).to(Device);
        var weight = module is LinearLayer layer ? layer.DenseRows(0, layer.OutFeatures) : ((TokenEmbedding)module).Weight.detach();
        return scope.Detach(weight.index_select(0, indices).to(float32));
    }

    public (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ((input, output), ranks) = (matrix.UpdateFeatures, (long)rank * matrix.Count);
        var random = RandomStart.Draw(config.Init, rank, ranks, input, Random);
        return (scope.Detach(random.to(float32, Device)), scope.Detach(zeros([output, ranks], float32, Device)));
    }
}
