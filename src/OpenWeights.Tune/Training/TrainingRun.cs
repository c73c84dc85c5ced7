using System.Globalization;
using System.Text.Json;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Generation;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Recording;

namespace OpenWeights.Tune.Training;

/// <summary>A run from its config to its result: data, model, loop, evaluation, checkpoints.</summary>
public sealed class TrainingRun : IDisposable
{
    private const string OptimizerName = "optimizer.safetensors";
    private const string StateName = "state.json";
    private const string WeightsName = "weights";

    private readonly RunConfig _config;
    private readonly IRunListener _listener;
    private readonly RowTokenizer _rowTokenizer;
    private readonly ITrainedModel _trained;
    private readonly ModelFolder _modelFolder;
    private readonly DataSet _train;
    private readonly DataSet? _eval;
    private readonly Trainer _trainer;
    private readonly RunRows _rows;
    private readonly BestTracker _best;
    private long _evaluatedStep;

    private TrainingRun(RunConfig config, IRunListener listener)
    {
        _config = config;
        _listener = listener;

        // A GPU that is not there is told at once; else torch, which takes a while to load, is first asked when the data is read.
        var device = config.Model.Device is "auto" or "cpu" ? null : Devices.Find(config.Model.Device);
        var modelPath = ModelPath.Resolve(config.Model.Path);
        _modelFolder = ModelFolder.Open(modelPath);
        var decoder = ModelLoader.ReadConfig(_modelFolder);
        listener.Stage("reading the data");
        _rowTokenizer = new RowTokenizer(modelPath, config.Data.TrainOn);
        var data = RunData.Read(config.Data, _rowTokenizer, decoder.VocabularySize, config.Seed, room: ModelRoom.Of(decoder, config.Model.MaxPositions));
        (_train, _eval) = (data.Train, data.Eval);
        foreach (var warning in data.Warnings)
        {
            listener.Warn(warning);
        }

        _rows = new RunRows(
            _train.Rows, config.Data.Shuffle, config.Seed, config.Training.MicroBatchSize, config.Training.GradientAccumulationSteps, config.Data.GroupByLength && !config.Data.Packing);
        Devices.UseAllCores();
        device ??= Devices.Find(config.Model.Device);
        var total = config.Training.MaxSteps ?? Math.Max(1, (long)Math.Ceiling(config.Training.Epochs * _rows.StepsPerEpoch));
        listener.Stage("reading the model");
        _trained = TrainedModel.Load(config, modelPath, device, listener.Warn);
        if (config.Training.Offload != "none" && device.type == TorchSharp.DeviceType.CPU)
        {
            listener.Warn("training.offload changes nothing in a run on the CPU: everything is in its memory already.");
        }

        _best = new BestTracker(config.Evaluation.EarlyStoppingMinDelta);
        _trainer = new Trainer(_trained, new SupervisedObjective(config.Objective), _rows, config, total);
    }

    /// <summary>Reads and checks everything that a run needs, and trains nothing.</summary>
    /// <param name="config">The config.</param>
    /// <param name="listener">Is told what happens.</param>
    /// <exception cref="ConfigException">A setting is wrong; everything that is wrong is in it.</exception>
    /// <exception cref="InvalidDataException">The model or the data is wrong.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static TrainingRun Prepare(RunConfig config, IRunListener listener)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(listener);
        SettingCheck.Require(config);
        return new TrainingRun(config, listener);
    }

    /// <summary>Rows as the model will read them.</summary>
    public IReadOnlyList<TokenRow> Rows => _train.Rows;

    /// <summary>The model, with its adapter on.</summary>
    public CausalLanguageModel Model => _trained.Model;

    /// <summary>Makes token rows of texts, and holds the tokenizer.</summary>
    public RowTokenizer RowTokenizer => _rowTokenizer;

    /// <summary>What the run will do.</summary>
    public RunPlan Plan => new()
    {
        Config = _config,
        ModelType = _trained.Model.Config.ModelType,
        BaseParameters = _trained.Model.ParameterCount,
        TrainedParameters = _trained.Parameters.Sum(static p => p.Parameter.numel()),
        DType = _trained.Model.DType.ToString().ToLowerInvariant(),
        Device = _trained.Model.Device.ToString(),
        Train = _train.Report,
        Eval = _eval?.Report,
        Padding = _rows.Padding(),
        StepsPerEpoch = _rows.StepsPerEpoch,
        TotalSteps = _trainer.TotalSteps,
        StepsDone = _trainer.StepsDone,
        Memory = MemoryEstimate.Of(
            _trained,
            _config.Training.MicroBatchSize,
            _train.LongestRow,
            _trainer.Optimizer.State.Sum(static s => s.State.numel() * s.State.element_size()),
            _config.Training.GradientAccumulationSteps > 1,
            _config.Training.Checkpointing),
    };

    /// <summary>Trains to the end, or until it is told to stop: then the step is finished and a checkpoint written.</summary>
    /// <param name="resume">Whether to go on from the newest whole checkpoint of the folder.</param>
    /// <param name="overwrite">Whether an unfinished run in the folder may be lost.</param>
    /// <param name="command">The command that started the run, for the manifest.</param>
    /// <param name="stop">Stops the run after the step in hand.</param>
    /// <returns>The folder of the result, or null where the run was stopped.</returns>
    /// <exception cref="TrainingFailedException">The loss or a gradient is not a finite number.</exception>
    /// <exception cref="ConfigException">The folder holds another run.</exception>
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

        Ask(recorder, questions, "after training", stop);
        var result = folder.ResultPath(_trained.ResultName);
        AtomicFolder.Write(result, _trained.Save, replace: true);
        recorder.Report(_trainer.StepsDone < _trainer.TotalSteps ? $"stopped early after {_trainer.StepsDone} steps" : "finished");
        return result;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _trainer.Dispose();
        _trained.Dispose();
    }

    private void Begin(RunFolder folder, bool resume, bool overwrite, string command)
    {
        folder.Clean();
        if (resume && folder.Checkpoints.Newest(_listener.Warn) is { } newest)
        {
            ResumeCheck.Run(folder.ConfigPath, _config, _listener.Warn);
            Restore(newest.Folder);
        }
        else
        {
            if (resume)
            {
                _listener.Warn($"{folder.FolderPath} has no whole checkpoint to go on from; the run starts at its beginning.");
            }

            folder.StartAnew(overwrite || resume, _listener.Warn);
        }

        AtomicFile.WriteText(folder.ConfigPath, ConfigWriter.Write(_config));
        RunManifest.Write(folder.ManifestPath, _config, _modelFolder, command);
    }

    // False where the run was stopped.
    private bool Loop(RunFolder folder, RunRecorder recorder, QuestionSet? questions, CancellationToken stop)
    {
        var saved = _trainer.StepsDone;
        if (_config.Training.WorstBatchFirst && saved < _trainer.TotalSteps)
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
        if (step.Skipped)
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

    private void Evaluate(RunFolder folder, RunRecorder recorder, QuestionSet? questions, CancellationToken stop)
    {
        var step = _trainer.StepsDone;
        var evaluation = Evaluator.Run(_trained.Model, _eval!.Rows, _config.Training.MicroBatchSize, step, CancellationToken.None);
        recorder.Add(evaluation);
        _listener.Evaluated(evaluation);
        _evaluatedStep = step;
        if (_best.Sees(step, evaluation.Loss) && _config.Evaluation.KeepBest)
        {
            AtomicFolder.Write(folder.BestPath, _trained.Save, replace: true);
        }

        if (StopsEarly())
        {
            _listener.Warn($"the eval loss has not fallen in {_best.WithoutImprovement} evaluations; the run ends here. It was least at step {_best.Step}, {_best.Loss:F4}.");
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

    private QuestionSet? Questions() => _config.Evaluation.GenerateRows == 0 || _config.Data.Eval.Count == 0
        ? null
        : QuestionSet.Read(_config.Data.Eval, _rowTokenizer, _config.Evaluation.GenerateRows, EndTokens.Of(_modelFolder, _rowTokenizer.Tokenizer));

    private void Ask(RunRecorder recorder, QuestionSet? questions, string when, CancellationToken stop)
    {
        if (questions is { Count: > 0 } && !stop.IsCancellationRequested)
        {
            var answers = questions.Ask(_trained.Model, _config.Evaluation.MaxNewTokens, CancellationToken.None);
            var scores = AnswerScores.Of(_trainer.StepsDone, when, answers);
            recorder.Add(scores, answers);
            _listener.Answered(scores, answers);
        }
    }
}
