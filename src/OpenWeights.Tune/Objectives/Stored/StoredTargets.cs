using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Stored;

/// <summary>
/// What a model predicts at the targets of some rows: the log-probability of each target, and the most likely tokens with theirs. The tensors
/// are in the caller's dispose scope.
/// </summary>
/// <param name="LogProbs">Log-probabilities of the targets, [targets], float32.</param>
/// <param name="TopIds">The most likely tokens, most likely first, [targets, top], int64.</param>
/// <param name="TopLogProbs">Their log-probabilities, [targets, top], float32.</param>
internal sealed record StoredTargets(Tensor LogProbs, Tensor TopIds, Tensor TopLogProbs)
{
    private const long ChunkScores = 1 << 23;

    /// <summary>Runs a model without gradients; logits exist for a few tokens at a time.</summary>
    /// <param name="model">The model.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="settings">What to compute.</param>
    internal static StoredTargets Of(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, LogProbSettings settings)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var batch = TokenBatch.Of(rows, padId: 0, model.Device);
        var hidden = model.call(batch.Input);
        var predicting = hidden.view(-1, hidden.size(2)).index_select(0, batch.Sources);
        var (count, chunk, adapted) = (batch.TargetCount, Math.Max(16, ChunkScores / model.VocabularySize), model.AdaptedHead(batch.Input, batch.Sources));
        var (logProbs, ids, top) = (empty([count], float32), empty([count, settings.Top], int64), empty([count, settings.Top], float32));
        for (long start = 0; start < count; start += chunk)
        {
            using var inner = NewDisposeScope();
            var n = Math.Min(chunk, count - start);
            using var some = AdaptedTokens.Use(adapted?.narrow(0, start, n));
            var logits = Scaled(model.Logits(predicting.narrow(0, start, n)), settings);
            var normalizer = logits.logsumexp(1, keepdim: true);
            _ = logProbs.narrow(0, start, n).copy_(logits.gather(1, batch.Targets.narrow(0, start, n).unsqueeze(1)).sub(normalizer).squeeze(1));
            if (settings.Top > 0)
            {
                var (values, indexes) = logits.topk(settings.Top);
                _ = ids.narrow(0, start, n).copy_(indexes);
                _ = top.narrow(0, start, n).copy_(values.sub(normalizer));
            }
        }

        return new StoredTargets(logProbs.MoveToOuterDisposeScope(), ids.MoveToOuterDisposeScope(), top.MoveToOuterDisposeScope());
    }

    private static Tensor Scaled(Tensor logits, LogProbSettings settings)
    {
        var known = settings.Vocabulary < logits.size(1) ? logits.narrow(1, 0, settings.Vocabulary) : logits;
        if (settings.Temperature == 1)
        {
            return known;
        }

        using Scalar divisor = settings.Temperature;
        return known.div(divisor);
    }
}

/// <summary>What is computed of each target.</summary>
/// <param name="Top">Number of the most likely tokens; 0 for the target alone.</param>
/// <param name="Temperature">Divides the logits.</param>
/// <param name="Vocabulary">Number of tokens that count: those that teacher and student share.</param>
internal sealed record LogProbSettings(int Top = 0, double Temperature = 1, long Vocabulary = long.MaxValue)
{
    /// <summary>The settings for a student and a teacher; no more tokens are compared than both have.</summary>
    /// <param name="top">Number of the most likely tokens.</param>
    /// <param name="temperature">Divides the logits.</param>
    /// <param name="student">Number of tokens that the student knows.</param>
    /// <param name="teacher">Number of tokens that the teacher knows.</param>
    internal static LogProbSettings Of(int top, double temperature, int student, int teacher) => new(Math.Min(top, Math.Min(student, teacher)), temperature, Math.Min(student, teacher));

    /// <summary>Bytes of a target in a file.</summary>
    internal int TargetBytes => (2 * sizeof(int) * Top) + sizeof(float);
}
