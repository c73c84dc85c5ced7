using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>
/// Base of the objectives that train on judged answers of the policy, recorded or sampled while training. Answers that are sampled together
/// are trained on in one or several steps.
/// </summary>
internal abstract class SampledObjective : IObjective, IRankedObjective, IDisposable
{
    private readonly IAnswerSource _source;
    private IReadOnlyList<string>? _names;
    private SampledBatch? _batch;
    private bool _isUsedUp;
    private bool _isNew;
    private IReadOnlyDictionary<string, double> _known = new Dictionary<string, double>();
    private long _tokens;
    private readonly List<Tensor> _largestDifferences = [];
    private readonly List<(IReadOnlyList<TokenRow> Rows, Tensor LogProbs)> _unread = [];
    private readonly HashSet<AnswerSample> _read = [];

    /// <summary>Creates the objective.</summary>
    /// <param name="context">What it is made from.</param>
    /// <param name="source">Gives the answers.</param>
    private protected SampledObjective(ObjectiveContext context, IAnswerSource source)
    {
        (Context, _source) = (context, source);
        _names = context.Settings.Rewards.Count > 0 ? [.. context.Settings.Rewards.Select(static r => r.MetricName)] : null;
    }

    /// <inheritdoc/>
    public void Join(RankGroup ranks, Device device)
    {
        (Ranks, Device) = (ranks, device);
        Metrics.Join(ranks, device);
    }

    /// <inheritdoc/>
    public bool UsesDropout => false;

    /// <inheritdoc/>
    public virtual JsonObject? State
    {
        get => new() { ["num_tokens"] = _tokens, ["batch"] = _isUsedUp ? null : _batch?.ToJson() };
        set
        {
            _tokens = value?["num_tokens"]?.GetValue<long>() ?? 0;
            _batch = value?["batch"] is JsonObject batch ? SampledBatch.FromJson(batch) : null;
        }
    }

    /// <summary>What the objective is made from.</summary>
    protected ObjectiveContext Context { get; }

    /// <summary>Its settings.</summary>
    protected ObjectiveSection Settings => Context.Settings;

    /// <summary>The temperature of the sampling.</summary>
    protected double Temperature => Settings.Temperature ?? 1;

    /// <summary>The ranks that compute each step.</summary>
    private protected RankGroup Ranks { get; private set; } = RankGroup.Alone;

    /// <summary>Device of the model, where there are several ranks.</summary>
    private protected Device Device { get; private set; } = CPU;

    /// <summary>Metrics of the step.</summary>
    protected MetricMeans Metrics { get; } = new();

    /// <summary>Number of micro-batches of the step.</summary>
    protected int MicroBatches { get; private set; }

    /// <summary>Number of answers of the step, with those that are not trained.</summary>
    protected int Answers { get; private set; }

    /// <summary>Number of targets of the step.</summary>
    protected long Targets { get; private set; }

    /// <summary>Number that the loss sums of the step are divided by.</summary>
    protected long Units { get; private set; }

    /// <summary>Whether log-probabilities of the sampling policy are needed before the loss.</summary>
    private protected virtual bool NeedsOld => false;

    private SamplingPlan Plan => Context.Sampling!;

    /// <inheritdoc/>
    public IReadOnlyList<IReadOnlyList<TokenRow>> Rows(CausalLanguageModel model, long step, BatchSampler rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        var (index, at) = Math.DivRem(step, Plan.StepsTogether);
        if (_batch?.Index != index)
        {
            _batch = Collect(model, [.. rows.Of(step).SelectMany(static b => b)], index);
            _tokens += _batch.Rows.Sum(static r => (long)r.Ids.Length);
            _isNew = true;
        }

        (_known, _isUsedUp) = (_batch.Metrics, at == Plan.StepsTogether - 1);
        return [.. _batch.Rows.Skip((int)(at % Plan.Parts) * Plan.RowsPerStep).Take(Plan.RowsPerStep).Chunk(Plan.MicroBatch)];
    }

    /// <inheritdoc/>
    public IReadOnlyList<IReadOnlyList<TokenRow>> EvaluationRows(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, int batchSize)
    {
        var batch = Collect(model, rows, index: -1);
        _known = batch.Metrics;
        return [.. batch.Rows.Chunk(batchSize)];
    }

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Longest(CausalLanguageModel model, BatchSampler rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        var longest = rows.Longest().OrderByDescending(static r => r.Ids.Length).ToList();
        return [.. Enumerable.Range(0, Plan.MicroBatch).Select(i => Trial(longest[i % longest.Count], model.Config.MaxPositions))];
    }

    /// <inheritdoc/>
    public long Begin(CausalLanguageModel model, IReadOnlyList<IReadOnlyList<TokenRow>> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        Metrics.Dispose();
        (MicroBatches, Answers, Targets) = (batches.Count, batches.Sum(static b => b.Count), batches.Sum(static b => b.Sum(static r => (long)r.CountTargets())));
        return Units = Math.Max(1, CountUnits());
    }

    /// <inheritdoc/>
    public IReadOnlyList<JsonObject> TakeSamples()
    {
        foreach (var (rows, logProbs) in _unread)
        {
            using (logProbs)
            {
                using var read = logProbs.cpu();
                SetEach(rows, MemoryMarshal.Cast<byte, float>(read.bytes).ToArray(), (s, values) =>
                {
                    s.LogProbs ??= values;
                    _ = _read.Add(s);
                });
            }
        }

        _unread.Clear();
        if (!Ranks.IsAlone && _source.Records)
        {
            // What other ranks computed of their share is recorded too.
            var own = _batch!.Rows.Index().Where(r => _read.Contains(r.Item.Sample!)).Select(static r => (r.Index, r.Item.Sample!.LogProbs!.ToArray())).ToList();
            foreach (var (index, values) in RankedAnswers.Join(Ranks, own, Device))
            {
                _batch.Rows[index].Sample!.LogProbs ??= values;
            }

            _read.Clear();
        }

        IReadOnlyList<JsonObject> lines = _isNew && _source.Records ? [.. _batch!.Rows.Select(SampledRows.Line)] : [];
        _isNew = false;
        return lines;
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> TakeWarnings() => _source.TakeWarnings();

    /// <inheritdoc/>
    public void Dispose()
    {
        _unread.ForEach(static u => u.LogProbs.Dispose());
        _unread.Clear();
        Metrics.Dispose();
        (_source as IDisposable)?.Dispose();
    }

    /// <inheritdoc/>
    public abstract Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows);

    /// <inheritdoc/>
    public virtual IReadOnlyDictionary<string, double> End()
    {
        var means = Metrics.Take();
        foreach (var (name, value) in _known)
        {
            means.TryAdd(name, value);
        }

        var largest = Ranks.Gather([_largestDifferences.Select(static d => d.ToDouble()).DefaultIfEmpty(double.NegativeInfinity).Max()], Device).Max(static d => d[0]);
        _largestDifferences.ForEach(static d => d.Dispose());
        _largestDifferences.Clear();
        if (!double.IsNegativeInfinity(largest))
        {
            means["sampling/sampling_logp_difference/max"] = largest;
        }

        means["num_tokens"] = _tokens;
        return means;
    }

    /// <summary>Adds how much the sampler's log-probabilities differ from those of training, by TRL's names.</summary>
    private protected void CompareWithSampler(AnswerTensors answers)
    {
        if (MetricMeans.IsOff || answers.Rows.Any(static r => r.Sample!.SamplingLogProbs is null))
        {
            return;
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var sampler = tensor(answers.Rows.SelectMany(static r => r.Sample!.SamplingLogProbs!).ToArray(), device: answers.Old.device);
        var difference = answers.Old.sub(sampler).abs();
        Metrics.Add("sampling/sampling_logp_difference/mean", difference);
        _largestDifferences.Add(difference.max().DetachFromDisposeScope());
    }

    /// <summary>Keeps the log-probabilities of answers on which the policy has not changed since it sampled them, for the record.</summary>
    private protected void Remember(AnswerTensors answers)
    {
        if (!MetricMeans.IsOff && _source.Records && is_grad_enabled() && answers.Rows.Any(static r => r.Sample!.LogProbs is null))
        {
            _unread.Add((answers.Rows, answers.Scores.LogProbs.detach().clone().DetachFromDisposeScope()));
        }
    }

    /// <summary>Number that the loss sums of the step are divided by.</summary>
    private protected abstract long CountUnits();

    /// <summary>Sets the advantage of each answer.</summary>
    /// <param name="rows">The answers.</param>
    /// <param name="rewards">Their rewards.</param>
    /// <param name="metrics">Receives metrics besides the common ones.</param>
    /// <returns>The advantages, and the deviation of rewards that each answer is compared with.</returns>
    private protected abstract (double[] Advantages, double[] Deviations) Advantages(IReadOnlyList<TokenRow> rows, RewardTable rewards, IDictionary<string, double> metrics);

    // Answers with everything that does not change while they are trained on.
    private SampledBatch Collect(CausalLanguageModel model, IReadOnlyList<TokenRow> prompts, long index)
    {
        using var nothing = no_grad();
        var isTraining = index >= 0;
        var rows = _source.Answers(model, prompts, index);
        _names ??= [.. rows[0].Sample!.Rewards.Keys];
        if ((isTraining && Plan.StepsTogether > 1) || NeedsOld)
        {
            Fill(model, rows, static s => s.LogProbs is null, static (s, values) => s.LogProbs = values);
        }

        if (Context.Reference is { } reference)
        {
            reference.Run(other =>
            {
                Fill(other, rows, static s => s.ReferenceLogProbs is null, static (s, values) => s.ReferenceLogProbs = values);
                return true;
            });
        }

        var rewards = new RewardTable(_names, Settings.RewardWeights.Count > 0 ? Settings.RewardWeights : [.. Settings.Rewards.Select(static r => r.Weight)], [.. rows.Select(static r => r.Sample!.Rewards)], _source.GroupSize(isTraining));
        var more = new Dictionary<string, double>();
        var (advantages, deviations) = Advantages(rows, rewards, more);
        for (var i = 0; i < rows.Count; i++)
        {
            rows[i].Sample!.Advantage = advantages[i];
        }

        var metrics = SampleMetrics.Of(rows, rewards, deviations);
        foreach (var (name, value) in more.Concat(_source.TakeMetrics()))
        {
            metrics[name] = value;
        }

        return new SampledBatch(index, rows, metrics);
    }

    // Log-probabilities of the answers that lack them.
    private void Fill(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, Func<AnswerSample, bool> lacks, Action<AnswerSample, IReadOnlyList<float>> set)
    {
        TokenRow[][] chunks = [.. rows.Where(r => r.CountTargets() > 0 && lacks(r.Sample!)).Chunk(Plan.MicroBatch)];
        var computed = new List<(int, float[])>();
        foreach (var ((number, chunk), isOwn) in Ranks.Passes([.. chunks.Index()], model))
        {
            using var scope = NewDisposeScope();
            var values = TokenLogProbs.Of(model, TokenBatch.Of(chunk, padId: 0, model.Device), temperature: Temperature).LogProbs.cpu();
            if (isOwn)
            {
                computed.Add((number, MemoryMarshal.Cast<byte, float>(values.bytes).ToArray()));
            }
        }

        foreach (var (number, values) in RankedAnswers.Join(Ranks, computed, Device))
        {
            SetEach(chunks[number], values, set);
        }
    }

    private static void SetEach(IReadOnlyList<TokenRow> rows, float[] values, Action<AnswerSample, IReadOnlyList<float>> set)
    {
        var start = 0;
        foreach (var row in rows)
        {
            var count = row.CountTargets();
            set(row.Sample!, values[start..(start + count)]);
            start += count;
        }
    }

    // A row as long as it can get, to try its memory.
    private TokenRow Trial(TokenRow row, int room)
    {
        var length = row.Role == RowRole.Prompt ? Math.Max(1, Math.Min(Settings.MaxCompletionLength, room - row.Ids.Length)) : row.Labels.Count(static l => l != TokenRow.Ignored);
        int[] ids = row.Role == RowRole.Prompt ? [.. row.Ids, .. Enumerable.Repeat(row.Ids[^1], length)] : row.Ids;
        var sample = new AnswerSample { Group = "", Rewards = new Dictionary<string, double?>(), IsTruncated = true, Length = length, Advantage = 1 };
        var made = SampledRows.Row(ids, length, isTrained: true, row.Source, sample);
        sample.ReferenceLogProbs = Context.Reference is null ? null : new float[made.CountTargets()];
        return made;
    }
}
