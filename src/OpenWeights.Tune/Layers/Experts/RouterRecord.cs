using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>What the routers of a forward pass scored, for the loss that keeps experts evenly used.</summary>
/// <param name="expertsPerToken">How many experts read a token, in all layers alike.</param>
public sealed class RouterRecord(int expertsPerToken)
{
    private readonly DisposeScope? _scope = CurrentDisposeScope;
    private readonly List<Tensor> _scores = [];

    /// <summary>Notes a layer's router scores; they then live as long as the scope that the record was made in.</summary>
    /// <param name="scores">[tokens of the batch, experts].</param>
    public void Add(Tensor scores)
    {
        ArgumentNullException.ThrowIfNull(scores);
        var noted = scores.alias();
        _ = noted.MoveToOtherDisposeScope(_scope!);
        _scores.Add(noted);
    }

    /// <summary>The scores that were noted, layer by layer.</summary>
    internal IReadOnlyList<Tensor> Scores => _scores;

    /// <summary>An empty record of the same kind, in the dispose scope that is open now.</summary>
    internal RouterRecord Another() => new(expertsPerToken);

    /// <summary>
    /// The balance loss (Fedus et al., 2021, equation 4, over all layers together as transformers computes it): the number of experts times
    /// the sum, over experts, of the choices per token that fell on one times the mean probability that routers gave it; the number of experts
    /// per token where all are used evenly. A float32 scalar with a graph.
    /// </summary>
    /// <param name="real">True for tokens that are not padding, [batch, tokens]; null where none is.</param>
    public Tensor BalanceLoss(Tensor? real = null)
    {
        using var scope = NewDisposeScope();
        var probabilities = cat([.. _scores], 0).softmax(-1, float32);
        var experts = probabilities.size(1);
        if (real is not null)
        {
            using var counted = real.reshape(-1).nonzero().view(-1);
            var tokens = real.numel();
            var all = Enumerable.Range(0, _scores.Count).Select(i =>
            {
                using Scalar offset = i * tokens;
                return counted.add(offset, Scalars.One);
            });
            probabilities = probabilities.index_select(0, cat([.. all], 0));
        }

        var (_, chosen) = probabilities.detach().topk(expertsPerToken, -1);
        var rows = probabilities.size(0);
        using Scalar weight = (double)experts / rows;
        var counts = zeros([experts], float32, probabilities.device).index_add_(0, chosen.reshape(-1), ones([rows * expertsPerToken], float32, probabilities.device), Scalars.One);
        return probabilities.mean([0]).mul(counts).sum().mul(weight).MoveToOuterDisposeScope();
    }
}
