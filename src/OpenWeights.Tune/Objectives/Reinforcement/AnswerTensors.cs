using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>A micro-batch of sampled answers with the policy's values. Its tensors are float64 and in the caller's dispose scope.</summary>
internal sealed class AnswerTensors
{
    private AnswerTensors(IReadOnlyList<TokenRow> rows, TokenBatch batch, TokenLogProbs scores, RouterRecord? routers) =>
        (Rows, Batch, Scores, Routers, LogProbs) = (rows, batch, scores, routers, scores.LogProbs.to(float64));

    /// <summary>The answers that are trained.</summary>
    internal IReadOnlyList<TokenRow> Rows { get; }

    /// <summary>Their tokens.</summary>
    internal TokenBatch Batch { get; }

    /// <summary>The policy's values of each target.</summary>
    internal TokenLogProbs Scores { get; }

    /// <summary>The routers of a mixture of experts; null if they are not trained.</summary>
    internal RouterRecord? Routers { get; }

    /// <summary>Log-probability of each target, [targets], with a graph.</summary>
    internal Tensor LogProbs { get; }

    /// <summary>The same by the policy that sampled, [targets].</summary>
    internal Tensor Old { get; private init; } = null!;

    /// <summary>The same by the reference, [targets]; null without one.</summary>
    internal Tensor? Reference { get; private init; }

    /// <summary>Advantage of each answer, [rows].</summary>
    internal Tensor Advantages { get; private init; } = null!;

    /// <summary>Number of targets of each answer, [rows].</summary>
    internal Tensor Lengths { get; private init; } = null!;

    /// <summary>Runs the policy on the answers of a micro-batch that are trained; null if there are none.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">The micro-batch.</param>
    /// <param name="temperature">Divides the logits.</param>
    /// <param name="trainsEntropy">Whether the entropy has a graph.</param>
    internal static AnswerTensors? Of(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, double temperature, bool trainsEntropy)
    {
        IReadOnlyList<TokenRow> trained = [.. rows.Where(static r => r.CountTargets() > 0)];
        if (trained.Count == 0)
        {
            return null;
        }

        var batch = TokenBatch.Of(trained, padId: 0, model.Device);
        var routers = is_grad_enabled() ? model.NewRouterRecord() : null;
        var scores = TokenLogProbs.Of(model, batch, observe: true, temperature, routers, trainsEntropy && is_grad_enabled());
        Tensor OnDevice(double[] values) => tensor(values, device: model.Device);
        var hasOld = trained.All(static r => r.Sample!.LogProbs is not null);
        return new AnswerTensors(trained, batch, scores, routers)
        {
            // On the policy's own answers, the ratio is 1.
            Old = hasOld ? OnDevice([.. trained.SelectMany(static r => r.Sample!.LogProbs!).Select(static v => (double)v)]) : scores.LogProbs.detach().to(float64),
            Reference = trained.All(static r => r.Sample!.ReferenceLogProbs is not null) ? OnDevice([.. trained.SelectMany(static r => r.Sample!.ReferenceLogProbs!).Select(static v => (double)v)]) : null,
            Advantages = OnDevice([.. trained.Select(static r => r.Sample!.Advantage)]),
            Lengths = OnDevice([.. trained.Select(static r => (double)r.CountTargets())]),
        };
    }

    /// <summary>The value of each target's answer, [targets].</summary>
    /// <param name="values">Values of the answers, [rows].</param>
    internal Tensor OfTargets(Tensor values) => values.index_select(0, Batch.TargetRows);

    /// <summary>Sums values of targets over each answer, [rows].</summary>
    /// <param name="values">Values of the targets, [targets].</param>
    internal Tensor Sum(Tensor values) => TokenLogProbs.SumRows(values, Batch);
}
