using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Preferences;

/// <summary>A micro-batch of answers: each row is a prompt and an answer, whose tokens are the targets. Its tensors are in the caller's dispose scope.</summary>
internal sealed class AnswerBatch
{
    // Share of the tokens below which sharing beginnings is faster.
    private const double MostTokens = 0.9;

    private AnswerBatch(TokenBatch tokens, Tensor lengths) => (Tokens, Lengths) = (tokens, lengths);

    /// <summary>The rows.</summary>
    internal TokenBatch Tokens { get; }

    /// <summary>Number of targets of each row, [rows], float64.</summary>
    internal Tensor Lengths { get; }

    /// <summary>Creates a batch. Pairs with a long common beginning share its computation where the model allows that exactly.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="model">The model.</param>
    /// <param name="shares">Whether beginnings may be shared: the routers of a mixture of experts would count them once.</param>
    internal static AnswerBatch Of(IReadOnlyList<TokenRow> rows, CausalLanguageModel model, bool shares = false)
    {
        var tokens = shares && IsWorthSharing(rows, model) ? TokenBatch.OfPairs(rows, padId: 0, model.Device) : TokenBatch.Of(rows, padId: 0, model.Device);
        return new AnswerBatch(tokens, tensor(rows.Select(static r => (double)r.CountTargets()).ToArray(), device: model.Device));
    }

    // A row of a pair needs a mask, and attends over a longer row. On a GPU the kernels without a mask are faster.
    private static bool IsWorthSharing(IReadOnlyList<TokenRow> rows, CausalLanguageModel model)
    {
        if (model.Device.type != TorchSharp.DeviceType.CPU || rows[0].Role != RowRole.Chosen)
        {
            return false;
        }

        var layout = new PairLayout(rows);
        return layout.Tokens < MostTokens * rows.Count * rows.Max(static r => r.Ids.Length) && model.CanShareBeginnings(layout.Width);
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
        return reference.Stored?.Find(Tokens.Rows, policy.device)?.LogProbs ?? reference.Run(model => TokenLogProbs.Of(model, ReadBy(model)).LogProbs);
    }

    // Another model may not be able to share beginnings; the targets are in the same order.
    private TokenBatch ReadBy(CausalLanguageModel model) =>
        Tokens.Input.SharesBeginning && !model.CanShareBeginnings((int)Tokens.Input.InputIds.size(1)) ? TokenBatch.Of(Tokens.Rows, padId: 0, model.Device) : Tokens;
}
