using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Initial weights of a new adapter, as in PEFT.</summary>
internal sealed class FreshWeights(CausalLanguageModel model, LoraConfig config, Generator generator, StartFindings? findings = null) : FreshTensors(model, generator), IAdapterWeights
{
    // The embedding and the head of a vocabulary that grows: the new rows are the mean of the others, as after transformers' resize_token_embeddings.
    public override Parameter? Frozen(string fileName, WeightSlot slot) => Grown(slot.Own) is { } grown ? Parameter(grown, trained: false) : null;

    public override Parameter Whole(string fileName, nn.Module module, WeightSlot slot, bool required) =>
        IsOfVocabulary(module) && (Grown(slot.Own) ?? (slot.Own is { } own ? config.NewRows?.On(own) : null)) is { } grown ? Parameter(grown) : base.Whole(fileName, module, slot, required);

    public override Tensor? BeforeTraining(string fileName, WeightSlot slot) => ReferenceEquals(slot, Model.Stack.Embedding.Slots[0]) || (Model.Config.Labels is null && ReferenceEquals(slot, Model.Head.Slots[0])) ? Grown(slot.Own) : null;

    public LoraWeights Linear(string module, LinearLayer layer, int rank)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var context = new StartContext(module, layer, rank, config.ScaleOf(config.PatternName(module)), config) { Device = DeviceOf(module), Generator = Random, Findings = findings, Original = FileWeights.Original(Model) };
        var weights = LoraForms.Fresh(context, LoraStarts.Make(context));
        using Scalar scale = context.Scale;
        return weights with
        {
            OutputBias = config.LoraBias ? scope.Detach(zeros([layer.OutFeatures], float32, DeviceOf(module))) : null,
            Magnitude = config.UseDora ? LoraLayer.RowNorms(layer, weights.A, weights.B, scale).DetachFromDisposeScope() : null,
        };
    }

    public (Tensor A, Tensor B, Tensor? Magnitude) Embedding(string module, TokenEmbedding layer, int rank)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var a = zeros([rank, layer.Weight.size(0)], float32, DeviceOf(module));
        var b = empty([layer.Weight.size(1), rank], float32).normal_(0, 1, Random).to(float32, DeviceOf(module));

        // A is zero, so that the norms are the weight's own.
        return (scope.Detach(a), scope.Detach(b), config.UseDora ? scope.Detach(layer.Weight.detach().to(float32).norm(0)) : null);
    }

    public Tensor Rows(string fileName, nn.Module module, IReadOnlyList<int> tokens)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var indices = tensor([.. tokens.Select(static t => (long)t)], [tokens.Count]).to(DeviceOf(fileName));
        var weight = module is LinearLayer layer ? layer.DenseRows(0, layer.OutFeatures) : ((TokenEmbedding)module).Weight.detach();
        if (config.NewRows is { } rows)
        {
            return rows.Of(weight, tokens);
        }

        return scope.Detach(weight.index_select(0, indices).to(float32));
    }

    private bool IsOfVocabulary(nn.Module module) => module is TokenEmbedding || (Model.Config.Labels is null && ReferenceEquals(module, Model.Head));

    // A weight of the vocabulary with rows for new tokens, in no dispose scope; null if the vocabulary does not grow.
    private Tensor? Grown(Tensor? weight)
    {
        if (weight is null || config.VocabularySize is not { } tokens || tokens <= weight.size(0))
        {
            return null;
        }

        if (config.NewRows is { } rows)
        {
            return rows.On(weight);
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var mean = weight.to(float32).mean([0L]).to(weight.dtype).unsqueeze(0);
        return scope.Detach(cat([weight.detach(), mean.expand(tokens - weight.size(0), weight.size(1))]));
    }

    public (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ((input, output), ranks) = (matrix.UpdateFeatures, (long)rank * matrix.Count);
        var random = RandomStart.Draw(config.Init, rank, ranks, input, Random);
        return (scope.Detach(random.to(float32, DeviceOf(file))), scope.Detach(zeros([output, ranks], float32, DeviceOf(file))));
    }
}
