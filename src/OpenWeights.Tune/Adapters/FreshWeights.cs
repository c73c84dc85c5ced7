using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Initial weights of a new adapter, as in PEFT.</summary>
internal sealed class FreshWeights(CausalLanguageModel model, LoraConfig config, Generator generator) : FreshTensors(model, generator), IAdapterWeights
{
    public LoraWeights Linear(string module, LinearLayer layer, int rank)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        if (config.Init == LoraInit.Pissa)
        {
            return Pissa(module, layer, rank, config.ScaleOf(module));
        }

        var bound = 1 / Math.Sqrt(layer.InFeatures);
        var random = empty([rank, layer.InFeatures], float32);
        random = config.Init == LoraInit.Gaussian ? random.normal_(0, 1.0 / rank, Random) : random.uniform_(-bound, bound, Random);
        var (a, b) = (random.to(float32, Device), zeros([layer.OutFeatures, rank], float32, Device));
        using Scalar scale = config.ScaleOf(module);
        return new LoraWeights(scope.Detach(a), scope.Detach(b))
        {
            OutputBias = config.LoraBias ? scope.Detach(zeros([layer.OutFeatures], float32, Device)) : null,
            Magnitude = config.UseDora ? LoraLayer.RowNorms(layer, a, b, scale).DetachFromDisposeScope() : null,
        };
    }

    public (Tensor A, Tensor B) Embedding(string module, TokenEmbedding layer, int rank)
    {
        using var scope = NewDisposeScope();
        var b = empty([layer.Weight.size(1), rank], float32).normal_(0, 1, Random).to(float32, Device);
        return (scope.Detach(zeros([rank, layer.Weight.size(0)], float32, Device)), scope.Detach(b));
    }

    public (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ((input, output), ranks) = (matrix.UpdateFeatures, (long)rank * matrix.Count);
        var bound = 1 / Math.Sqrt(input);
        var random = empty([ranks, input], float32);
        random = config.Init == LoraInit.Gaussian ? random.normal_(0, 1.0 / rank, Random) : random.uniform_(-bound, bound, Random);
        return (scope.Detach(random.to(float32, Device)), scope.Detach(zeros([output, ranks], float32, Device)));
    }

    /// <summary>
    /// A = sqrt(S) Vᵀ and B = U sqrt(S), where S = singular values / s are the largest of the weight (Meng et al., 2024; PEFT's
    /// pissa_init).
    /// </summary>
    internal static LoraWeights Pissa(string module, LinearLayer layer, int rank, double scale)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        if (rank > Math.Min(layer.InFeatures, layer.OutFeatures))
        {
            throw new InvalidDataException($"init_lora_weights {LoraTargets.TooHighForPissa(module, layer, rank)}");
        }

        using Scalar inverse = 1 / scale;
        var (u, s, vh) = linalg.svd(layer.DenseRows(0, layer.OutFeatures), fullMatrices: false);
        var root = s.narrow(0, 0, rank).mul(inverse).sqrt();
        var a = vh.narrow(0, 0, rank).mul(root.unsqueeze(1)).contiguous();
        var b = u.narrow(1, 0, rank).mul(root).contiguous();
        return new LoraWeights(scope.Detach(a), scope.Detach(b)) { Start = (scope.Detach(a.clone()), scope.Detach(b.clone())) };
    }
}
