using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>A micro-batch of answers: each row is a prompt and an answer, whose tokens are the targets. Its tensors are in the caller's dispose scope.</summary>
internal sealed class AnswerBatch
{
    private AnswerBatch(TokenBatch tokens, Tensor lengths) => (Tokens, Lengths) = (tokens, lengths);

    /// <summary>The rows.</summary>
    internal TokenBatch Tokens { get; }

    /// <summary>Number of targets of each row, [rows], float64.</summary>
    internal Tensor Lengths { get; }

    /// <summary>Creates a batch.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="device">The device.</param>
    internal static AnswerBatch Of(IReadOnlyList<TokenRow> rows, Device device)
    {
        var tokens = TokenBatch.Of(rows, padId: 0, device);
        return new AnswerBatch(tokens, tensor(rows.Select(static r => (double)r.CountTargets()).ToArray(), device: device));
    }

    /// <summary>Indexes of the rows with a role, [count], int64.</summary>
    internal Tensor With(RowRole role) =>
        tensor(Enumerable.Range(0, Tokens.Rows.Count).Where(i => Tokens.Rows[i].Role == role).Select(static i => (long)i).ToArray(), device: Lengths.device);

    /// <summary>The values of the targets of rows with a role, of [targets].</summary>
    internal Tensor OfTargets(Tensor values, RowRole role)
    {
        using var scope = NewDisposeScope();
        var belongs = tensor(Tokens.Rows.Select(r => r.Role == role).ToArray(), device: values.device);
        return values.masked_select(belongs.index_select(0, Tokens.TargetRows)).MoveToOuterDisposeScope();
    }

    /// <summary>Sums values of targets over each row, [rows], float64.</summary>
    internal Tensor Sum(Tensor values) => TokenLogProbs.SumRows(values, Tokens);

    /// <summary>The reference's log-probabilities of the targets; zeros without a reference.</summary>
    internal Tensor Reference(IReferencePolicy? reference, Tensor policy)
    {
        if (reference is null)
        {
            return policy.zeros_like();
        }

        using var nothing = no_grad();
        return reference.Stored?.Find(Tokens.Rows, policy.device)?.LogProbs ?? reference.Run(model => TokenLogProbs.Of(model, Tokens).LogProbs);
    }
}
