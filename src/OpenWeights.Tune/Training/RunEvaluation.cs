using System.Globalization;
using OpenWeights.Formats.Files;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Training.Ranks;
using OpenWeights.Tune.Training.Recording;

namespace OpenWeights.Tune.Training;

/// <summary>The evaluations of a run: eval loss, best step, and answers to some rows.</summary>
internal sealed class RunEvaluation
{
    // Number of rows searched for prompts.
    private const int MaxAsked = 4096;

    private readonly RunDraft _draft;
    private readonly EvaluationSection _settings;
    private readonly ITrainedModel _trained;
    private readonly IObjective _objective;
    private readonly AveragedWeights _averaged;
    private readonly IShardStrategy _shards;
    private readonly RunFolder? _folder;
    private readonly RunRecorder? _recorder;
    private readonly IRunListener _listener;
    private readonly EvaluationGenerations? _questions;
    private readonly IReadOnlyList<AnswerMetric> _metrics;
    private readonly BestTracker _best;
    private readonly OverfitWatch _overfit;
    private long _evaluatedStep;

    /// <summary>Creates the evaluation of a run.</summary>
    /// <param name="draft">The run.</param>
    /// <param name="trained">The model.</param>
    /// <param name="objective">The objective.</param>
    /// <param name="averaged">The averaged weights, if they are evaluated and saved.</param>
    /// <param name="shards">What ranks have of the weights.</param>
    /// <param name="folder">Folder of the run, for the best weights; null on a rank that is not the first.</param>
    /// <param name="recorder">Records the results; null on a rank that is not the first.</param>
    /// <param name="listener">Receives the results.</param>
    /// <param name="reached">State of a resumed run; null for a new one.</param>
    internal RunEvaluation(RunDraft draft, ITrainedModel trained, IObjective objective, AveragedWeights averaged, IShardStrategy shards, RunFolder? folder, RunRecorder? recorder, IRunListener listener, TrainerState? reached)
    {
        (_draft, _settings, _trained, _objective, _averaged, _shards, _folder, _recorder, _listener) = (draft, draft.Config.Evaluation, trained, objective, averaged, shards, folder, recorder, listener);
        _best = new BestTracker(_settings.EarlyStoppingMinDelta);
        if (reached is not null)
        {
            _evaluatedStep = reached.EvaluatedStep;
            _best.Restore(reached);
        }

        _overfit = new OverfitWatch(_settings.KeepBest);
        if (reached is not null && recorder is not null)
        {
            _overfit.Restore(recorder.Metrics);
        }

        _questions = Questions();
        _metrics = AnswerMetric.Of(_settings);
    }

    /// <summary>Takes a completed step.</summary>
    internal void Stepped(StepMetrics step) => _overfit.Stepped(step.Loss);

    /// <summary>Whether early stopping applies: the eval loss has not decreased for the configured number of evaluations.</summary>
    internal bool StopsEarly => _settings.EarlyStoppingPatience > 0 && _best.WithoutImprovement >= _settings.EarlyStoppingPatience;

    // Sampled answers are compared by their rewards.
    private bool IsByReward => _draft.Sampling is not null;

    /// <summary>Whether an evaluation is due at a step and was not done yet.</summary>
    internal bool IsDue(long step) =>
        _draft.Data.Eval is not null && step > _evaluatedStep && (step == _draft.TotalSteps || (_settings.EverySteps > 0 && step % _settings.EverySteps == 0));

    /// <summary>Evaluates, saves the weights if they are the best so far, and generates some answers.</summary>
    /// <param name="step">Number of completed steps.</param>
    /// <param name="stop">Skips the answers if cancelled.</param>
    internal void Run(long step, CancellationToken stop)
    {
        using var averaged = _averaged.Use();
        var (rows, atOnce) = (_draft.Data.Eval!.Rows, _draft.Config.Training.RowsAtOnce);
        var evaluation = _draft.Config.Objective.Type == "sft"
            ? Evaluator.Run(_trained.Model, rows, atOnce, step, _draft.Ranks, CancellationToken.None)
            : Evaluator.Run(_objective, _trained.Model, rows, atOnce * ObjectiveKinds.Of(_draft.Config.Objective).RowsPerExample, step, _draft.Ranks);
        _recorder?.Add(evaluation);
        _listener.Evaluated(evaluation);
        _evaluatedStep = step;
        if (!IsByReward && _overfit.Evaluated(step, evaluation.Loss) is { } warning)
        {
            _listener.Warn(warning);
        }

        if (_best.Sees(step, evaluation.Objective.TryGetValue("eval_reward", out var reward) ? -reward : evaluation.Loss) && _settings.KeepBest)
        {
            KeepBest();
        }

        if (StopsEarly)
        {
            _listener.Warn(IsByReward
                ? $"the eval reward has not risen in {_best.WithoutImprovement} evaluations; the run ends here. It was highest at step {_best.Step}, {-_best.Loss:F4}."
                : $"the eval loss has not fallen in {_best.WithoutImprovement} evaluations; the run ends here. It was lowest at step {_best.Step}, {_best.Loss:F4}.");
        }
        else if (step < _draft.TotalSteps)
        {
            Ask(_questions?.Take(_settings.Samples), step, string.Create(CultureInfo.InvariantCulture, $"step {step}"), stop);
        }
    }

    /// <summary>Generates all answers.</summary>
    /// <param name="step">Number of completed steps.</param>
    /// <param name="when">When that is, in words.</param>
    /// <param name="stop">Cancels generation.</param>
    internal void Ask(long step, string when, CancellationToken stop) => Ask(_questions, step, when, stop);

    /// <summary>Selects the weights of the result: the last ones, or the best ones, which are loaded into the model.</summary>
    /// <param name="lastStep">Number of completed steps.</param>
    internal RunResult Choose(long lastStep)
    {
        var step = ChooseStep(lastStep);
        if (step == lastStep || !_trained.IsShared)
        {
            _draft.Ranks.TakeFromFirst(_trained.WholeWeights);
        }

        return new(_folder!.ResultPath(_trained.ResultName), step, lastStep)
        {
            BestStep = _best.Loss is null ? null : _best.Step,
            BestLoss = _best.Loss,
            BestIsReward = IsByReward,
            BestIsKept = _settings.KeepBest,
        };
    }

    /// <summary>Takes part in <see cref="Choose"/> on a rank that is not the first.</summary>
    internal void FollowChoice()
    {
        var isLast = PutAverage(false);
        if (isLast || !_trained.IsShared)
        {
            _draft.Ranks.TakeFromFirst(_trained.WholeWeights);
        }
        else
        {
            // Of weights that ranks share out, each reads its own.
            var best = RunFolder.BestPathOf(_draft.Config.OutputDir);
            _trained.Restore(Directory.Exists(best) ? best : throw new IOException($"{best} is not on this machine; to go back to the best weights, output_dir must be a folder that all machines see."));
        }

        _trained.Training = false;
    }

    // All ranks may be needed to read the weights that the first writes.
    private void KeepBest()
    {
        if (_folder is null)
        {
            _shards.Follow();
        }
        else
        {
            using var doing = _draft.Ranks.Activity?.Do("writing the best weights");
            _shards.Lead(() => AtomicFolder.Write(_folder.BestPath, _trained.Save, replace: true));
        }
    }

    /// <summary>A trainer's state, extended for a checkpoint.</summary>
    internal TrainerState AddTo(TrainerState state) => state with
    {
        EvaluatedStep = _evaluatedStep,
        BestLoss = _best.Loss,
        BestStep = _best.Step,
        EvaluationsWithoutImprovement = _best.WithoutImprovement,
    };

    private long ChooseStep(long lastStep)
    {
        var wantsBest = _settings is { KeepBest: true, Result: "best" } && _best.Loss is not null && _best.Step != lastStep;
        var hasBest = wantsBest && Directory.Exists(_folder!.BestPath);
        _ = PutAverage(!hasBest);
        if (!hasBest)
        {
            if (wantsBest)
            {
                _listener.Warn($"{_folder!.BestPath}, which contained the weights of step {_best.Step}, no longer exists; the result is that of the last step.");
            }

            return lastStep;
        }

        _trained.Restore(_folder!.BestPath);

        // Values computed from the previous weights are discarded.
        _trained.Training = false;
        return _best.Step;
    }

    // Of several ranks, all may be needed for averages, and the first says whether they are wanted: whether the last weights are the result.
    private bool PutAverage(bool wanted)
    {
        var isWanted = _draft.Ranks.Gather([wanted ? 1 : 0], _trained.Model.Device)[0][0] > 0;
        if (isWanted)
        {
            _averaged.Put();
        }

        return isWanted;
    }

    private void Ask(EvaluationGenerations? questions, long step, string when, CancellationToken stop)
    {
        if (questions is { Count: > 0 } && !_draft.Ranks.Any(stop.IsCancellationRequested, _trained.Model.Device))
        {
            var answers = questions.Generate(_draft.Ranks, _trained.Model, _settings.MaxNewTokens);
            var scores = Score(step, when, answers, questions.Rows);
            _recorder?.Add(scores, answers);
            _listener.Answered(scores, answers);
        }
    }

    // A metric may ask a program or a server.
    private AnswerScores Score(long step, string when, IReadOnlyList<Answer> answers, EvaluationRows rows)
    {
        using var outside = _draft.Ranks.Activity?.Outside();
        return AnswerScores.Of(step, when, answers, rows, _metrics);
    }

    // Eval rows, or training rows if there are none.
    private EvaluationGenerations? Questions()
    {
        var (count, data, config) = (_settings.GenerateRows, _draft.Data, _draft.Config.Data);
        if (count == 0 || ObjectiveKinds.Of(_draft.Config.Objective).Head != HeadKind.Vocabulary || (data.Train.Report.IsTokenized && !_draft.RowTokenizer.HasTokenizer))
        {
            return null;
        }

        var asked = config.Eval.Count > 0 ? EvaluationRows.Eval : data.Eval is not null ? EvaluationRows.HeldBack : EvaluationRows.Trained;
        var rows = asked == EvaluationRows.Trained ? data.Train : data.Eval!;
        var places = asked == EvaluationRows.Eval ? null : rows.WholePlaces.Take(MaxAsked + count).ToHashSet();
        var questions = EvaluationGenerations.Read(
            asked == EvaluationRows.Eval ? config.Eval : config.Train, _draft.RowTokenizer, count, EndTokens.Of(_draft.Folder, _draft.RowTokenizer.Tokenizer),
            _trained.Model.Config.MaxPositions - 1, asked, places, ObjectiveKinds.Of(_draft.Config.Objective).Rows == RowKind.Prompts);
        if (questions.Count == 0)
        {
            _listener.Warn("no row has a prompt to generate an answer for (evaluation.generate_rows).");
        }

        return questions;
    }
}
