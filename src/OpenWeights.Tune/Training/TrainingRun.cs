using System.Globalization;
using System.Text.Json;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Memory;
using OpenWeights.Tune.Training.Recording;

namespace OpenWeights.Tune.Training;

/// <summary>A run from its config to its result: data, model, loop, evaluation, checkpoints.</summary>
public sealed class TrainingRun : IDisposable
{
    private const string OptimizerName = "optimizer.safetensors";
    private const string StateName = "state.json";
    private const string WeightsName = "weights";

    private const double LongMeasurement = 20;

    // Rows in which as many questions as are wanted are looked for.
    private const int MaxAsked = 4096;

    private readonly RunDraft _draft;
    private readonly RunConfig _config;
    private readonly IRunListener _listener;
    private readonly ITrainedModel _trained;
    private readonly DataSet? _eval;
    private readonly Trainer _trainer;
    private readonly BestTracker _best;
    private long _evaluatedStep;

    private TrainingRun(RunDraft draft, IRunListener listener)
    {
        (_draft, _config, _listener, _eval) = (draft, draft.Config, listener, draft.Data.Eval);
        listener.Stage("reading the model");
        _trained = TrainedModel.Load(_config, draft.ModelPath, draft.Device, warning =>
        {
            if (!draft.Said.Contains(warning))
            {
                listener.Warn(warning);
            }
        });
        if (_config.Training.Offload != "none" && draft.Device.type == TorchSharp.DeviceType.CPU)
        {
            listener.Warn("training.offload changes nothing in a run on the CPU: everything is in its memory already.");
        }

        _best = new BestTracker(_config.Evaluation.EarlyStoppingMinDelta);
        _trainer = new Trainer(_trained, new SupervisedObjective(_config.Objective), draft.Rows, _config, draft.TotalSteps);
    }

    /// <summary>Reads and checks everything that a run needs, and trains nothing.</summary>
    /// <param name="config">The config.</param>
    /// <param name="listener">Is told what happens.</param>
    /// <param name="options">How.</param>
    /// <exception cref="ConfigException">A setting is wrong; everything that is wrong is in it.</exception>
    /// <exception cref="InvalidDataException">The model or the data is wrong.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    /// <exception cref="ConfigException">The run does not fit into what memory there is, and is to be refused then.</exception>
    public static TrainingRun Prepare(RunConfig config, IRunListener listener, RunOptions options = default)
    {
        var draft = RunDraft.Read(config, listener, options);
        if (options.RequireMemory)
        {
            draft.RequireMemory();
        }

        return new TrainingRun(draft, listener);
    }

    /// <summary>Reads the weights of a run that has been read but for them.</summary>
    /// <param name="draft">The run.</param>
    /// <param name="listener">Is told what happens.</param>
    /// <exception cref="InvalidDataException">The model is wrong.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static TrainingRun Prepare(RunDraft draft, IRunListener listener)
    {
        ArgumentNullException.ThrowIfNull(draft);
        ArgumentNullException.ThrowIfNull(listener);
        return new TrainingRun(draft, listener);
    }

    /// <summary>Rows as the model will read them.</summary>
    public IReadOnlyList<TokenRow> Rows => _draft.Data.Train.Rows;

    /// <summary>The model, with its adapter on.</summary>
    public CausalLanguageModel Model => _trained.Model;

    /// <summary>Makes token rows of texts, and holds the tokenizer.</summary>
    public RowTokenizer RowTokenizer => _draft.RowTokenizer;

    /// <summary>What came of the run; null before its end.</summary>
    public RunResult? Result { get; private set; }

    /// <summary>What the run will do.</summary>
    public RunPlan Plan => _draft.Plan with { TotalSteps = _trainer.TotalSteps, StepsDone = _trainer.StepsDone };

    /// <summary>The memory that the run holds, counted on the model as it is.</summary>
    internal MemoryEstimate Memory => MemoryEstimate.Of(
        _trained,
        _config.Training.RowsAtOnce,
        _draft.Data.Train.LongestRow,
        _trainer.Optimizer.State.Sum(static s => s.State.numel() * s.State.element_size()),
        _config.Training.GradientAccumulationSteps > 1,
        _config.Training.Checkpointing);

    /// <summary>Runs the longest rows and one step of the optimizer, and tells what they take. The weights stay as they are; the run cannot be trained afterwards.</summary>
    /// <exception cref="System.Runtime.InteropServices.ExternalException">They do not fit into memory.</exception>
    public RunMeasurement Measure()
    {
        // What is done for the first time takes longer; a measurement that takes long anyway is not made twice.
        var (rows, update) = _trainer.Measure();
        if (rows + update < LongMeasurement)
        {
            (rows, update) = _trainer.Measure();
        }

        var train = _draft.Data.Train;
        var measured = (double)train.LongestRow * Math.Min(_config.Training.RowsAtOnce, train.Rows.Count);
        var usual = train.Report.Tokens / (1 - _draft.Rows.Padding()) / _draft.Rows.StepsPerEpoch;
        var seconds = (rows * usual / measured) + update;
        var peak = AvailableMemory.Taken(_draft.Device, _draft.Memory.Room) ?? ProcessMemory.Peak;
        return new RunMeasurement(peak, seconds, seconds * _trainer.TotalSteps);
    }

    /// <summary>Trains to the end, or until it is told to stop: then the step is finished and a checkpoint written.</summary>
    /// <param name="resume">Whether to go on from the newest whole checkpoint of the folder.</param>
    /// <param name="overwrite">Whether an earlier run in the folder may be lost.</param>
    /// <param name="command">The command that started the run, for the manifest.</param>
    /// <param name="stop">Stops the run after the step in hand.</param>
    /// <returns>The folder of the result, or null where the run was stopped.</returns>
    /// <exception cref="TrainingFailedException">The loss or a gradient is not a finite number.</exception>
    /// <exception cref="ConfigException">The folder holds another run, or what this one reads.</exception>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public string? Run(bool resume, bool overwrite, string command, CancellationToken stop)
    {
        using var folder = RunFolder.Take(_config.OutputDir);
        Begin(folder, resume, overwrite, command);
        _listener.Planned(Plan);
        var questions = Questions();
        using var recorder = new RunRecorder(folder, Plan);
        if (_trainer.StepsDone == 0)
        {
            Ask(recorder, questions, "before training", stop);
        }

        if (!Loop(folder, recorder, questions, stop))
        {
            recorder.Report($"stopped after {_trainer.StepsDone} steps");
            return null;
        }

        var step = ChooseResult(folder);
        Ask(recorder, questions, "after training", stop);
        var result = new RunResult(folder.ResultPath(_trained.ResultName), step, _trainer.StepsDone)
        {
            BestStep = _best.Loss is null ? null : _best.Step,
            BestLoss = _best.Loss,
            BestIsKept = _config.Evaluation.KeepBest,
        };
        AtomicFolder.Write(result.Folder, _trained.Save, replace: true);
        if (_config.Adapter is not null && AdapterEffect.IsNone(AdapterFolder.Open(result.Folder), _trained.Model))
        {
            _listener.Warn($"the run has changed nothing: in {result.Folder} {AdapterEffect.Reason}. Was training.learning_rate 0, or training.warmup_steps as long as the run?");
        }

        RunManifest.Add(folder.ManifestPath, result);
        var state = _trainer.StepsDone < _trainer.TotalSteps ? $"stopped early after {_trainer.StepsDone} steps" : "finished";
        recorder.Report(result.Choice is { } choice ? $"{state}; {choice}" : state);
        Result = result;
        return result.Folder;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _trainer.Dispose();
        _trained.Dispose();
    }

    private void Begin(RunFolder folder, bool resume, bool overwrite, string command)
    {
        RunFolder.RequireFree(_config, resume, overwrite);
        folder.Clean();
        var goesOn = false;
        if (resume && folder.Checkpoints.Newest(_listener.Warn) is { } newest)
        {
            ResumeCheck.Run(folder.ConfigPath, _config, _listener.Warn);
            Restore(newest.Folder);
            goesOn = true;
        }
        else
        {
            if (resume)
            {
                _listener.Warn($"{folder.FolderPath} has no whole checkpoint to go on from; the run starts at its beginning.");
            }

            // Of an unfinished run without a whole checkpoint there is nothing to lose.
            RunFolder.RequireFree(_config, resume: false, overwrite || (resume && !folder.HasResult));
            folder.StartAnew(_listener.Warn);
        }

        AtomicFile.WriteText(folder.ConfigPath, ConfigWriter.Write(_config));
        RunManifest.Write(folder.ManifestPath, _config, _draft.Folder, command, goesOn ? _listener.Warn : null);
    }

    // The step whose weights are the result; those of the best one are put into the model.
    private long ChooseResult(RunFolder folder)
    {
        if (_config.Evaluation is not { KeepBest: true, Result: "best" } || _best.Loss is null || _best.Step == _trainer.StepsDone)
        {
            return _trainer.StepsDone;
        }

        if (!Directory.Exists(folder.BestPath))
        {
            _listener.Warn($"{folder.BestPath}, which held the weights of step {_best.Step}, is not there any more; the result is of the last step.");
            return _trainer.StepsDone;
        }

        _trained.Restore(folder.BestPath);

        // What was computed from the weights that were there is forgotten.
        _trained.Training = false;
        return _best.Step;
    }

    // False where the run was stopped.
    private bool Loop(RunFolder folder, RunRecorder recorder, EvaluationGenerations? questions, CancellationToken stop)
    {
        var saved = _trainer.StepsDone;
        if (_config.Training.WorstBatchFirst == true && saved < _trainer.TotalSteps)
        {
            _listener.Stage("trying the longest rows");
            _trainer.Rehearse();
        }

        // A run that was stopped right before an evaluation makes up for it.
        if (saved > 0 && _evaluatedStep < saved && EvaluationIsDue(saved))
        {
            Evaluate(folder, recorder, questions, stop);
        }

        while (_trainer.StepsDone < _trainer.TotalSteps && !StopsEarly())
        {
            if (stop.IsCancellationRequested)
            {
                if (_trainer.StepsDone > saved || saved == 0)
                {
                    Save(folder);
                }

                return false;
            }

            var step = Step(recorder);
            if (!stop.IsCancellationRequested && EvaluationIsDue(step))
            {
                Evaluate(folder, recorder, questions, stop);
            }

            var last = step == _trainer.TotalSteps || StopsEarly();
            if (Due(step, _config.Checkpoint.EverySteps) || (last && _config.Checkpoint.EverySteps > 0))
            {
                Save(folder);
                recorder.Report($"running, {step} steps done");
                saved = step;
            }
        }

        return true;
    }

    private long Step(RunRecorder recorder)
    {
        var step = _trainer.Step();
        recorder.Add(step);
        _listener.Stepped(step, _trainer.TotalSteps);
        if (step.Overflowed)
        {
            _listener.Warn($"step {step.Step} was left out: its gradients overflow in float16 at the loss scale {step.LossScale}, which is halved.");
        }
        else if (step.Skipped)
        {
            _listener.Warn($"step {step.Step} was left out: its loss is {step.Loss}, the norm of its gradients {step.GradNorm}. Its rows: {step.Rows}.");
        }
        else if (step.Spike)
        {
            _listener.Warn($"the loss of step {step.Step} stands out: {step.Loss:F4}. Its rows: {step.Rows}.");
        }

        return step.Step;
    }

    private bool EvaluationIsDue(long step) => _eval is not null && (step == _trainer.TotalSteps || Due(step, _config.Evaluation.EverySteps));

    private bool StopsEarly() => _config.Evaluation.EarlyStoppingPatience > 0 && _best.WithoutImprovement >= _config.Evaluation.EarlyStoppingPatience;

    private void Evaluate(RunFolder folder, RunRecorder recorder, EvaluationGenerations? questions, CancellationToken stop)
    {
        var step = _trainer.StepsDone;
        var evaluation = Evaluator.Run(_trained.Model, _eval!.Rows, _config.Training.RowsAtOnce, step, CancellationToken.None);
        recorder.Add(evaluation);
        _listener.Evaluated(evaluation);
        _evaluatedStep = step;
        if (_best.Sees(step, evaluation.Loss) && _config.Evaluation.KeepBest)
        {
            AtomicFolder.Write(folder.BestPath, _trained.Save, replace: true);
        }

        if (StopsEarly())
        {
            _listener.Warn($"the eval loss has not fallen in {_best.WithoutImprovement} evaluations; the run ends here. It was lowest at step {_best.Step}, {_best.Loss:F4}.");
        }
        else if (step < _trainer.TotalSteps)
        {
            Ask(recorder, questions?.Take(_config.Evaluation.Samples), string.Create(CultureInfo.InvariantCulture, $"step {step}"), stop);
        }
    }

    private static bool Due(long step, long every) => every > 0 && step % every == 0;

    private void Save(RunFolder folder)
    {
        var step = _trainer.StepsDone;
        folder.Checkpoints.Save(step, _config.Checkpoint.Keep, path =>
        {
            _trained.Save(Path.Combine(path, WeightsName));
            SafetensorsWriter.Write(
                Path.Combine(path, OptimizerName), [.. _trainer.Optimizer.State.Select(static s => TensorFiles.ToWrite(s.Name, s.State))]);
            var state = _trainer.State with
            {
                EvaluatedStep = _evaluatedStep,
                BestLoss = _best.Loss,
                BestStep = _best.Step,
                EvaluationsWithoutImprovement = _best.WithoutImprovement,
            };
            AtomicFile.WriteText(Path.Combine(path, StateName), JsonSerializer.Serialize(state));
        });
        _listener.Checkpointed(step);
    }

    private void Restore(string checkpoint)
    {
        _trained.Restore(Path.Combine(checkpoint, WeightsName));
        using var weights = SafetensorsFile.Open(Path.Combine(checkpoint, OptimizerName));
        _trainer.Optimizer.Restore(name => weights.TryGetTensor(name, out _), name => TensorFiles.Read(weights, name));
        var reached = JsonSerializer.Deserialize<TrainerState>(File.ReadAllText(Path.Combine(checkpoint, StateName)))!;
        _trainer.State = reached;
        _evaluatedStep = reached.EvaluatedStep;
        _best.Restore(reached);
    }

    // Rows that are not trained on; where there are none, some that are.
    private EvaluationGenerations? Questions()
    {
        var (count, data) = (_config.Evaluation.GenerateRows, _draft.Data);
        if (count == 0 || (data.Train.Report.IsTokenized && !_draft.RowTokenizer.HasTokenizer))
        {
            return null;
        }

        var asked = _config.Data.Eval.Count > 0 ? EvaluationRows.Eval : data.Eval is not null ? EvaluationRows.HeldBack : EvaluationRows.Trained;
        var rows = asked == EvaluationRows.Trained ? data.Train : data.Eval!;
        var places = asked == EvaluationRows.Eval ? null : rows.WholePlaces.Take(MaxAsked + count).ToHashSet();
        var questions = EvaluationGenerations.Read(
            asked == EvaluationRows.Eval ? _config.Data.Eval : _config.Data.Train, _draft.RowTokenizer, count, EndTokens.Of(_draft.Folder, _draft.RowTokenizer.Tokenizer),
            _trained.Model.Config.MaxPositions - 1, asked, places);
        if (questions.Count == 0)
        {
            _listener.Warn("none of the rows has a prompt to ask the model before and after training (evaluation.generate_rows).");
        }

        return questions;
    }

    private void Ask(RunRecorder recorder, EvaluationGenerations? questions, string when, CancellationToken stop)
    {
        if (questions is { Count: > 0 } && !stop.IsCancellationRequested)
        {
            var answers = questions.Generate(_trained.Model, _config.Evaluation.MaxNewTokens, CancellationToken.None);
            var scores = AnswerScores.Of(_trainer.StepsDone, when, answers, questions.Rows);
            recorder.Add(scores, answers);
            _listener.Answered(scores, answers);
        }
    }
}
