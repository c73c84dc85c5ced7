using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>Router logits of a forward pass, for the load balancing loss.</summary>
/// <param name="expertsPerToken">Number of experts per token, the same in all layers.</param>
internal sealed class RouterRecord(int expertsPerToken)
{
    private readonly DisposeScope? _scope = CurrentDisposeScope;
    private readonly List<Tensor> _scores = [];

    /// <summary>Records a layer's router logits, which then live as long as the scope in which the record was created.</summary>
    /// <param name="scores">Router logits, [tokens of the batch, experts].</param>
    public void Add(Tensor scores)
    {
        ArgumentNullException.ThrowIfNull(scores);
        var noted = scores.alias();
        _ = noted.MoveToOtherDisposeScope(_scope!);
        _scores.Add(noted);
    }

    /// <summary>The recorded logits, layer by layer.</summary>
    internal IReadOnlyList<Tensor> Scores => _scores;

    /// <summary>An empty record of the same kind, in the current dispose scope.</summary>
    internal RouterRecord Another() => new(expertsPerToken);

    /// <summary>
    /// The load balancing loss (Fedus et al., 2021, equation 4, over all layers together as in transformers): the number of experts times
    /// the sum, over experts, of the fraction of tokens routed to the expert times its mean router probability. It equals the number of
    /// experts per token if all experts are used evenly. A float32 scalar with a graph.
    /// </summary>
    /// <param name="real">True for tokens that are not padding, [batch, tokens]; null if there is no padding.</param>
    public Tensor BalanceLoss(Tensor? real = null)
    {
        using var scope = NewDisposeScope();
        var probabilities = cat([.. _scores.Select(s => s.to(_scores[^1].device))], 0).softmax(-1, float32);
        var experts = probabilities.size(1);
        if (real is not null)
        {
            using var counted = real.reshape(-1).nonzero().view(-1).to(_scores[^1].device);
            var tokens = real.numel();
            var all = Enumerable.Range(0, _scores.Count).Select(i =>
            {
                using Scalar offset = i * tokens;
                return counted.add(offset);
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
