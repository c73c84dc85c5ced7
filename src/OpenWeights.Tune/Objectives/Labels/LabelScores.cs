using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Labels;

/// <summary>What a head of labels computes of texts.</summary>
internal static class LabelScores
{
    /// <summary>The scores of each text, [texts, labels], float32, with a graph if gradients are on; in the caller's dispose scope.</summary>
    /// <param name="model">The model.</param>
    /// <param name="rows">The texts, one document each.</param>
    /// <exception cref="InvalidDataException">The model is a language model.</exception>
    internal static Tensor Of(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        var labels = model.Config.Labels ?? throw new InvalidDataException("this model has a head of tokens and none of labels or rewards; use one that objective.type reward or classification trained, or an architecture ...ForSequenceClassification.");
        using var scope = NewDisposeScope();
        var batch = TokenBatch.Of(rows, padId: labels.PadId ?? 0, model.Device);
        var hidden = model.call(batch.Input);
        var last = rows.Select((row, i) => (i * hidden.size(1)) + labels.LastToken(row.Ids)).ToArray();
        var picked = tensor(last, device: model.Device);
        var states = hidden.view(-1, hidden.size(2)).index_select(0, picked);
        using var some = AdaptedTokens.Use(model.AdaptedHead(batch.Input, picked));
        return model.Logits(states).MoveToOuterDisposeScope();
    }
}
