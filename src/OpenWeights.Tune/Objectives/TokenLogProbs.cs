using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// A model's log-probabilities of a batch's targets, and what people watch beside them. Logits exist only for a few tokens at a time, forward and
/// backward. All tensors are float32, [targets], in the caller's dispose scope.
/// </summary>
/// <param name="LogProbs">Log-probability of each target; it has a graph if gradients are on.</param>
internal sealed record TokenLogProbs(Tensor LogProbs)
{
    /// <summary>Entropy of the prediction of each target, with a graph only if asked for; null if not asked for.</summary>
    internal Tensor? Entropy { get; private init; }

    /// <summary>Mean of the logits over the vocabulary, without gradient; null if not asked for.</summary>
    internal Tensor? MeanLogit { get; private init; }

    /// <summary>1 where the target has the largest logit, else 0; null if not asked for.</summary>
    internal Tensor? Correct { get; private init; }

    /// <summary>Logarithm of the sum of squared probabilities, without gradient; null if not asked for.</summary>
    internal Tensor? LogSumOfSquares { get; private init; }

    /// <summary>Runs the model and its head.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="observe">Whether to compute the values besides the log-probabilities.</param>
    /// <param name="temperature">Divides the logits.</param>
    /// <param name="routers">Records the routers of a mixture of experts; null for none.</param>
    /// <param name="trainsEntropy">Whether the entropy has a graph; observe is on then.</param>
    internal static TokenLogProbs Of(CausalLanguageModel model, TokenBatch batch, bool observe = false, double temperature = 1, RouterRecord? routers = null, bool trainsEntropy = false)
    {
        using var scope = NewDisposeScope();
        var values = RecomputedHead.Of(
            Predicting(model, batch, routers), batch.Targets, HeadCrossEntropy.RowsOfChunk(model.Head.Weight), (states, targets) => Values(model, states, targets, observe, temperature, trainsEntropy),
            differentiable: trainsEntropy ? 2 : 1, adapted: model.AdaptedHead(batch.Input, batch.Sources));
        values.ForEach(static v => _ = v.MoveToOuterDisposeScope());
        return new TokenLogProbs(values[0])
        {
            Entropy = observe ? values[1] : null,
            MeanLogit = observe ? values[2] : null,
            Correct = observe ? values[3] : null,
            LogSumOfSquares = observe ? values[4] : null,
        };
    }

    /// <summary>The log-probabilities alone, from hidden states that predict the targets.</summary>
    /// <param name="model">The model.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="predicting">Hidden states, [targets, hidden].</param>
    internal static Tensor Of(CausalLanguageModel model, TokenBatch batch, Tensor predicting) => RecomputedHead.Of(
        predicting, batch.Targets, HeadCrossEntropy.RowsOfChunk(model.Head.Weight), (states, wanted) => Values(model, states, wanted, observe: false, temperature: 1),
        adapted: model.AdaptedHead(batch.Input, batch.Sources))[0];

    /// <summary>Sums values of targets over each row, [rows], float64.</summary>
    /// <param name="values">Values of the targets, [targets].</param>
    /// <param name="batch">The batch.</param>
    internal static Tensor SumRows(Tensor values, TokenBatch batch)
    {
        using var scope = NewDisposeScope();
        return zeros([batch.Rows.Count], float64, values.device).index_add_(0, batch.TargetRows, values.to(float64), Scalars.One).MoveToOuterDisposeScope();
    }

    /// <summary>Hidden states that predict a target, [targets, hidden]; those of all tokens are freed by then.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="routers">Records the routers of a mixture of experts; null for none.</param>
    internal static Tensor Predicting(CausalLanguageModel model, TokenBatch batch, RouterRecord? routers)
    {
        using var scope = NewDisposeScope();
        var hidden = model.call(batch.Input with { Routers = routers });
        return hidden.view(-1, hidden.size(2)).index_select(0, batch.Sources).MoveToOuterDisposeScope();
    }

    private static List<Tensor> Values(CausalLanguageModel model, Tensor states, Tensor targets, bool observe, double temperature, bool trainsEntropy = false)
    {
        using var scope = NewDisposeScope();
        var raw = model.Logits(states);
        var logits = raw;
        if (temperature != 1)
        {
            using Scalar divisor = temperature;
            logits = raw.div(divisor);
        }

        var normalizer = logits.logsumexp(1, keepdim: true);
        List<Tensor> values = [logits.gather(1, targets.unsqueeze(1)).sub(normalizer).squeeze(1)];

        // Backward, which runs with gradients on, needs those values alone that have one.
        if (trainsEntropy && is_grad_enabled())
        {
            var logProbs = logits.sub(normalizer);
            values.Add(logProbs.exp().mul(logProbs).sum([1L]).neg());
        }
        else if (observe && !is_grad_enabled())
        {
            values.AddRange(Observed(raw, logits, normalizer, targets));
        }

        values.ForEach(static v => _ = v.MoveToOuterDisposeScope());
        return values;
    }

    // Entropy, mean logit, whether the target is the most likely, and the sum of squared probabilities. The logits are overwritten, so that few
    // copies of [tokens, vocabulary] exist.
    private static Tensor[] Observed(Tensor raw, Tensor logits, Tensor normalizer, Tensor targets)
    {
        var (mean, correct) = (raw.mean([1L]), logits.argmax(1).eq(targets).to(float32));
        var logProbs = logits.sub_(normalizer);
        using Scalar two = 2;
        using var twice = logProbs.mul(two);
        var squares = twice.logsumexp(1);
        using var probabilities = logProbs.exp();
        return [probabilities.mul_(logProbs).sum([1L]).neg(), mean, correct, squares];
    }
}
