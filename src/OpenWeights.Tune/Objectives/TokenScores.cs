using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives;

/// <summary>Evaluates a model's predictions of given tokens, without gradients and a few rows of logits at a time.</summary>
internal static class TokenScores
{
    private const long ChunkScores = 1 << 24;

    /// <summary>Summed cross entropy of a batch's targets, and the number of targets predicted correctly (argmax).</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="batch">The batch.</param>
    public static (double LossSum, long Correct) Of(CausalLanguageModel model, TokenBatch batch)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(batch);
        model.Config.RequireLanguage("a loss of tokens");
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var hidden = model.call(batch.Input);
        var predicting = hidden.view(-1, hidden.size(2)).index_select(0, batch.Sources);
        var (loss, correct, adapted) = (0.0, 0L, model.AdaptedHead(batch.Input, batch.Sources));
        var chunk = Math.Max(16, ChunkScores / model.Config.VocabularySize);
        for (long start = 0; start < batch.TargetCount; start += chunk)
        {
            using var inner = NewDisposeScope();
            var count = Math.Min(chunk, batch.TargetCount - start);
            var targets = batch.Targets.narrow(0, start, count);
            using var some = AdaptedTokens.Use(adapted?.narrow(0, start, count));
            var scores = model.Logits(predicting.narrow(0, start, count)).contiguous();
            correct += scores.argmax(1).eq(targets).sum().ToInt64();
            loss += CrossEntropy(scores, targets);
        }

        return (loss, correct);
    }

    // Each loss is a float32's or better, and their sum float64: a float32 sum of thousands of them would lose digits that are reported.
    // The scores are left undefined.
    private static double CrossEntropy(Tensor scores, Tensor targets) => CpuKernel.Serves(scores)
        ? SoftmaxKernel.CrossEntropy(scores, targets, wantsGradient: false)
        : nn.functional.cross_entropy(scores, targets, reduction: nn.Reduction.None).sum(type: float64).ToDouble();
}
