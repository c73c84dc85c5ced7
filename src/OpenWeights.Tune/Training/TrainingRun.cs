using System.Text.Json;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Generation;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

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

    private TrainingRun(RunConfig config, IRunListener listener)
    {
        _config = config;
        _listener = listener;
        Devices.UseAllCores();
        var device = Devices.Find(config.Model.Device);
        _modelFolder = ModelFolder.Open(config.Model.Path);
        var decoder = ModelLoader.ReadConfig(_modelFolder);
        listener.Stage("reading the data");
        _rowTokenizer = new RowTokenizer(config.Model.Path, config.Data.TrainOn);
        var data = RunData.Read(config.Data, _rowTokenizer, decoder.VocabularySize, config.Seed);
        (_train, _eval) = (data.Train, data.Eval);
        foreach (var warning in data.Warnings)
        {
            listener.Warn(warning);
        }

        _rows = new RunRows(
            _train.Rows, config.Data.Shuffle, config.Seed, config.Training.MicroBatchSize, config.Training.GradientAccumulationSteps, config.Data.GroupByLength && !config.Data.Packing);
        var total = config.Training.MaxSteps ?? Math.Max(1, (long)Math.Ceiling(config.Training.Epochs * _rows.StepsPerEpoch));
        listener.Stage("reading the model");
        _trained = TrainedModel.Load(config, device, listener.Warn);
        _trainer = new Trainer(_trained, new SupervisedObjective(), _rows, config, total);
    }

    /// <summary>Reads and checks everything that a run needs, and trains nothing.</summary>
    /// <param name="config">The config.</param>
    /// <param name="listener">Is told what happens.</param>
    /// <exception cref="InvalidDataException">The model or the data is wrong.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static TrainingRun Prepare(RunConfig config, IRunListener listener)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(listener);
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
        StepsDone = _trainer.Optimizer.StepCount,
        Memory = MemoryEstimate.Of(
            _trained, _config.Training.MicroBatchSize, _train.LongestRow, _config.Training.ActivationCheckpointing),
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
        if (_trainer.Optimizer.StepCount == 0)
        {
            Ask(questions, "before training", stop);
        }

        using var metrics = new MetricsFile(folder.MetricsPath, _trainer.Optimizer.StepCount);
        if (!Loop(folder, metrics, stop))
        {
            return null;
        }

        Ask(questions, "after training", stop);
        var result = folder.ResultPath(_trained.ResultName);
        AtomicFolder.Write(result, _trained.Save, replace: true);
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
        folder.Checkpoints.Clean();
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
    private bool Loop(RunFolder folder, MetricsFile metrics, CancellationToken stop)
    {
        var saved = _trainer.Optimizer.StepCount;
        while (_trainer.Optimizer.StepCount < _trainer.TotalSteps)
        {
            if (stop.IsCancellationRequested)
            {
                if (_trainer.Optimizer.StepCount > saved || saved == 0)
                {
                    Save(folder);
                }

                return false;
            }

            var step = _trainer.Step();
            metrics.Add(step);
            _listener.Stepped(step, _trainer.TotalSteps);
            var last = step.Step == _trainer.TotalSteps;
            if (_eval is not null && !stop.IsCancellationRequested && (last || Due(step.Step, _config.Evaluation.EverySteps)))
            {
                var evaluation = Evaluator.Run(_trained.Model, _eval.Rows, _config.Training.MicroBatchSize, step.Step, CancellationToken.None);
                metrics.Add(evaluation);
                _listener.Evaluated(evaluation);
            }

            if (Due(step.Step, _config.Checkpoint.EverySteps) || (last && _config.Checkpoint.EverySteps > 0))
            {
                Save(folder);
                saved = step.Step;
            }
        }

        return true;
    }

    private static bool Due(long step, long every) => every > 0 && step % every == 0;

    private void Save(RunFolder folder)
    {
        var step = _trainer.Optimizer.StepCount;
        folder.Checkpoints.Save(step, _config.Checkpoint.Keep, path =>
        {
            _trained.Save(Path.Combine(path, WeightsName));
            SafetensorsWriter.Write(
                Path.Combine(path, OptimizerName), [.. _trainer.Optimizer.State.Select(static s => TensorFiles.ToWrite(s.Name, s.State))]);
            AtomicFile.WriteText(Path.Combine(path, StateName), JsonSerializer.Serialize(new { step, total_steps = _trainer.TotalSteps }));
        });
        _listener.Checkpointed(step);
    }

    private void Restore(string checkpoint)
    {
        _trained.Restore(Path.Combine(checkpoint, WeightsName));
        using var weights = SafetensorsFile.Open(Path.Combine(checkpoint, OptimizerName));
        using var nothing = no_grad();
        foreach (var (name, state) in _trainer.Optimizer.State)
        {
            using var scope = NewDisposeScope();
            _ = state.copy_(TensorFiles.Read(weights, name));
        }

        using var json = JsonDocument.Parse(File.ReadAllText(Path.Combine(checkpoint, StateName)));
        _trainer.Optimizer.StepCount = json.RootElement.GetProperty("step").GetInt64();
    }

    private QuestionSet? Questions() => _config.Evaluation.GenerateRows == 0 || _config.Data.Eval.Count == 0
        ? null
        : QuestionSet.Read(_config.Data.Eval, _rowTokenizer, _config.Evaluation.GenerateRows, EndTokens.Of(_modelFolder, _rowTokenizer.Tokenizer));

    private void Ask(QuestionSet? questions, string when, CancellationToken stop)
    {
        if (questions is { Count: > 0 } && !stop.IsCancellationRequested)
        {
            _listener.Answered(when, questions.Ask(_trained.Model, _config.Evaluation.MaxNewTokens, CancellationToken.None));
        }
    }
}
