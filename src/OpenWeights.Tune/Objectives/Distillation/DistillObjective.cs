using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives.Stored;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Distillation;

/// <summary>
/// Distillation (Hinton et al., 2015; GKD, Agarwal et al., 2024): the student is trained to predict what the teacher predicts, at the trained tokens of
/// the rows, as TRL's GKDTrainer and DistillationTrainer. The loss is a mean over the tokens of a step. Logits of both exist for a few tokens at a time.
/// </summary>
/// <param name="settings">The settings.</param>
/// <param name="teacher">The teacher.</param>
/// <param name="endTokens">Tokens that end an answer, for metrics; null for unknown.</param>
/// <param name="samples">Samples the student's own answers; null for the rows' own.</param>
/// <param name="answers">The teacher's answers, in the place of the rows' own; null for those.</param>
internal sealed class DistillObjective(DistillationSettings settings, IReferencePolicy teacher, IReadOnlyList<int>? endTokens = null, StudentSamples? samples = null, TeacherAnswers? answers = null) : IObjective, IRankedObjective, IDisposable
{
    private readonly MetricMeans _metrics = new();
    private long _tokens;
    private Dictionary<string, double> _lengths = [];
    private bool _isSampled;

    /// <inheritdoc/>
    public void Join(RankGroup ranks, Device device) => _metrics.Join(ranks, device);

    /// <inheritdoc/>
    public bool UsesDropout => false;

    /// <inheritdoc/>
    public JsonObject? State
    {
        get => new() { ["num_tokens"] = _tokens };
        set => _tokens = value?["num_tokens"]?.GetValue<long>() ?? 0;
    }

    /// <inheritdoc/>
    public IReadOnlyList<IReadOnlyList<TokenRow>> Rows(CausalLanguageModel model, long step, BatchSampler rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        _isSampled = samples?.Has(step) == true;
        return _isSampled ? samples!.Of(model, rows.Of(step), step)
            : answers is not null ? [.. rows.Of(step).Select(b => (IReadOnlyList<TokenRow>)[.. b.Select(answers.Of)])]
            : rows.Of(step);
    }

    /// <inheritdoc/>
    public IReadOnlyList<JsonObject> TakeSamples() => samples?.Take() ?? [];

    /// <inheritdoc/>
    public long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        _metrics.Dispose();
        var documents = batches.SelectMany(static b => b).SelectMany(static r => r.EachDocument()).ToList();
        _tokens += documents.Sum(static d => (long)d.Ids.Length);
        _lengths = AnswerLengths.Of(documents, endTokens ?? []);
        return documents.Sum(static d => (long)d.CountTargets());
    }

    /// <inheritdoc/>
    public Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var scope = NewDisposeScope();
        var batch = TokenBatch.Of(rows, padId: 0, model.Device);
        if (batch.TargetCount == 0)
        {
            return null;
        }

        var compared = settings.Top > 0 ? OfTop(batch, model.VocabularySize) : OfAll(batch);
        var routers = is_grad_enabled() ? model.NewRouterRecord() : null;

        // What is compared is found by the number of the target.
        var values = RecomputedHead.Of(
            TokenLogProbs.Predicting(model, batch, routers), arange(batch.TargetCount, int64, device: model.Device), Math.Max(1, HeadCrossEntropy.RowsOfChunk(model.Head.Weight) / 2),
            (states, numbers) => compared(model.Logits(states), numbers), adapted: model.AdaptedHead(batch.Input, batch.Sources));
        var loss = values[0].sum();
        _metrics.Add("entropy", values[1]);
        _metrics.Add("teacher_agreement", values[2]);
        if (routers is not null)
        {
            using Scalar weight = model.RouterLossWeight * batch.TargetCount;
            loss = loss.add(routers.BalanceLoss(batch.RealTokens), weight);
        }

        return loss.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, double> End()
    {
        var means = _metrics.Take();
        means["num_tokens"] = _tokens;
        if (samples is not null)
        {
            means["on_policy"] = _isSampled ? 1 : 0;
        }

        foreach (var (name, length) in _lengths)
        {
            means[name] = length;
        }

        return means;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _metrics.Dispose();
        answers?.Dispose();
    }

    // Divergence, entropy and agreement from the student's logits of some targets, over the whole vocabulary.
    private Func<Tensor, Tensor, IReadOnlyList<Tensor>> OfAll(TokenBatch batch)
    {
        // Backward computes the logits again.
        var states = Silently(model => TokenLogProbs.Predicting(model, batch, null)).MoveToOuterDisposeScope();
        return (logits, numbers) =>
        {
            using var scope = NewDisposeScope();
            var wanted = Silently(model => model.Logits(states.index_select(0, numbers)));
            var shared = Math.Min(logits.size(1), wanted.size(1));
            var (own, other) = (logits.narrow(1, 0, shared), wanted.narrow(1, 0, shared));
            List<Tensor> values = [Divergence.Of(own, other, settings.Beta, settings.Temperature)];
            if (!is_grad_enabled())
            {
                values.AddRange([Entropy(logits), Agreement(own, other.argmax(1))]);
            }

            return values.ConvertAll(static v => v.MoveToOuterDisposeScope());
        };
    }

    // The same over the teacher's most likely tokens.
    private Func<Tensor, Tensor, IReadOnlyList<Tensor>> OfTop(TokenBatch batch, int vocabulary)
    {
        var known = teacher.Stored?.Find(batch.Rows, batch.Targets.device)
            ?? teacher.Run(model => StoredTargets.Of(model, batch.Rows, LogProbSettings.Of(settings.Top, settings.Temperature, vocabulary, model.VocabularySize)));
        var best = known.TopIds.select(1, 0);
        var support = TopDivergence.Support(known, batch.Targets, settings);
        _ = (support.Ids.MoveToOuterDisposeScope(), support.LogProbs.MoveToOuterDisposeScope(), support.Repeats.MoveToOuterDisposeScope());
        return (logits, numbers) =>
        {
            using var scope = NewDisposeScope();
            var part = (support.Ids.index_select(0, numbers), support.LogProbs.index_select(0, numbers), support.Repeats.index_select(0, numbers));
            List<Tensor> values = [TopDivergence.Of(logits, part, settings)];
            if (!is_grad_enabled())
            {
                values.AddRange([Entropy(logits), Agreement(logits, best.index_select(0, numbers))]);
            }

            return values.ConvertAll(static v => v.MoveToOuterDisposeScope());
        };
    }

    private T Silently<T>(Func<CausalLanguageModel, T> compute)
    {
        using var nothing = no_grad();
        return teacher.Run(compute);
    }

    // At the temperature of the loss.
    private Tensor Entropy(Tensor raw)
    {
        using Scalar inverse = 1 / settings.Temperature;
        var logits = settings.Temperature == 1 ? raw : raw.mul(inverse);
        var logProbs = logits.sub(logits.logsumexp(1, keepdim: true));
        return logProbs.exp().mul(logProbs).sum([1L]).neg();
    }

    private static Tensor Agreement(Tensor logits, Tensor best) => logits.argmax(1).eq(best).to(float32);
}
