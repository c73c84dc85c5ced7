using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune;

/// <content>Training and evaluation.</content>
public sealed partial class LanguageModel
{
    private const string Loaded = "the model is loaded already, with these settings; leave this section out, or load it with others.";

    /// <summary>Trains the adapter, or without one all weights of the model, on rows that a program has.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="settings">Settings of the run, as in YAML, without model, adapter and quantization; null for the defaults. Without an output_dir nothing is
    /// written, and what is learned is in this model alone.</param>
    /// <param name="progress">Is told of each step.</param>
    /// <param name="stop">Ends the training after the step in hand.</param>
    /// <returns>What became of the run; null if it was stopped. The model has what was learned until then.</returns>
    /// <exception cref="ConfigException">A setting is invalid, or the run does not fit into memory; the exception lists all problems.</exception>
    /// <exception cref="InvalidDataException">A row is invalid; the message names it.</exception>
    /// <exception cref="TrainingFailedException">The loss is not a finite number.</exception>
    public RunResult? Train(IEnumerable<TrainingRow> rows, RunConfig? settings = null, IProgress<StepMetrics>? progress = null, CancellationToken stop = default) =>
        Train(On(DataSource.Of(rows), settings), progress, stop);

    /// <summary>Trains as <see cref="Train(IEnumerable{TrainingRow}, RunConfig?, IProgress{StepMetrics}?, CancellationToken)"/>, on a thread of its own, on rows that
    /// come one after the other. They are read to the end first.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="settings">Settings of the run.</param>
    /// <param name="progress">Is told of each step.</param>
    /// <param name="stop">Ends the training after the step in hand, or the reading of the rows.</param>
    /// <returns>What became of the run; null if it was stopped.</returns>
    /// <exception cref="OperationCanceledException">It was stopped while the rows were read.</exception>
    public Task<RunResult?> TrainAsync(IAsyncEnumerable<TrainingRow> rows, RunConfig? settings = null, IProgress<StepMetrics>? progress = null, CancellationToken stop = default)
    {
        var config = On(DataSource.Of(rows, stop: stop), settings);
        return Task.Factory.StartNew(() => Train(config, progress, stop), stop, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    /// <summary>Trains on the data that the settings name: files, or rows of <see cref="DataSource.Of(IEnumerable{TrainingRow}, string)"/>, with others to evaluate on.</summary>
    /// <param name="settings">Settings of the run, without model, adapter and quantization.</param>
    /// <param name="progress">Is told of each step.</param>
    /// <param name="stop">Ends the training after the step in hand.</param>
    /// <returns>What became of the run; null if it was stopped.</returns>
    public RunResult? Train(RunConfig settings, IProgress<StepMetrics>? progress = null, CancellationToken stop = default)
    {
        var listener = new ProgressListener(progress);
        return Train(settings, listener, default, stop) is { } result ? result with { Warnings = listener.Warnings } : null;
    }

    /// <summary>Trains as the others, and tells a listener of evaluations, answers, checkpoints and warnings too.</summary>
    /// <param name="settings">Settings of the run, without model, adapter and quantization.</param>
    /// <param name="listener">Is told what happens.</param>
    /// <param name="options">Whether a run is resumed, and whether one is tried that may not fit into memory.</param>
    /// <param name="stop">Ends the training after the step in hand.</param>
    /// <returns>What became of the run; null if it was stopped.</returns>
    public RunResult? Train(RunConfig settings, IRunListener listener, RunOptions options = default, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(listener);
        Refuse(settings);
        using var use = Take(CancellationToken.None);
        using var scratch = new ScratchFolder();
        var isKept = settings.OutputDir.Length > 0;
        var draft = RunDraft.Read(
            settings with
            {
                OutputDir = isKept ? settings.OutputDir : scratch.Within("run"),
                Model = _settings,
                Quantization = _quantization,
                Adapter = AdapterOfRun(scratch),
                Checkpoint = isKept ? settings.Checkpoint : settings.Checkpoint with { EverySteps = 0 },
            },
            listener,
            options with { Held = _loaded.Model.ParameterBytes });
        if (!options.IgnoreMemory)
        {
            draft.RequireMemory();
        }

        try
        {
            using var run = TrainingRun.Prepare(draft, listener, () => Trained(draft, listener));
            _ = run.Run(overwrite: false, command: "LanguageModel.Train", stop);
            return run.Result is { } result ? result with { Folder = isKept ? result.Folder : "" } : null;
        }
        finally
        {
            Rest();
        }
    }

    /// <summary>Loss, perplexity and token accuracy on rows that a program has.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="data">How rows are read, as in YAML; null for the defaults.</param>
    /// <param name="batchSize">Rows that are read at once.</param>
    /// <param name="stop">Cancels between batches.</param>
    /// <exception cref="InvalidDataException">A row is invalid; the message names it.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public EvaluationMetrics Evaluate(IEnumerable<TrainingRow> rows, DataSection? data = null, int batchSize = 4, CancellationToken stop = default)
    {
        using var use = Take(stop);
        var section = (data ?? new DataSection()) with { Train = [DataSource.Of(rows)], Eval = [], EvalFraction = 0, Packing = false };
        var tokenizer = new RowTokenizer(_path, section.TrainOn, _loaded.ChatTemplate);
        var read = RunData.Read(section, tokenizer, _loaded.Model.VocabularySize, seed: 0, room: ContextLimit.Of(_loaded.Model.Config, _settings.MaxPositions));
        return Evaluator.Run(_loaded.Model, read.Train.Rows, batchSize, 0, stop);
    }

    private static RunConfig On(DataSource rows, RunConfig? settings)
    {
        var config = settings ?? new RunConfig();
        return config.Data.Train.Count == 0 ? config with { Data = config.Data with { Train = [rows] } }
            : throw new ConfigException([new ConfigProblem("", "data.train", "the rows are given beside the settings; leave data.train out, or train by the settings alone.")]);
    }

    private static void Refuse(RunConfig settings)
    {
        List<ConfigProblem> problems =
        [
            .. settings.Model == new RunConfig().Model ? [] : new[] { new ConfigProblem("", "model", Loaded) },
            .. settings.Quantization is null ? [] : new[] { new ConfigProblem("", "quantization", Loaded) },
            .. settings.Adapter is null ? [] : new[] { new ConfigProblem("", "adapter", "the model has its adapter already, or none; leave this section out, and use AddAdapter.") },
            .. ObjectiveKinds.Of(settings.Objective).Head is HeadKind.Vocabulary ? [] : new[]
            {
                new ConfigProblem("", "objective.type", $"{settings.Objective.Type} trains a model with another output than a language model's; use TrainingRun.Prepare."),
            },
        ];
        if (problems.Count > 0)
        {
            throw new ConfigException(problems);
        }
    }

    // An adapter that was trained is one to go on from, as one in a folder is.
    private AdapterSection? AdapterOfRun(ScratchFolder scratch)
    {
        if (_adapterIsTrained && _adapter is { } adapter)
        {
            var folder = scratch.Within("start");
            AdapterTraining.Save(_loaded, adapter, folder);
            return _section! with { Path = folder };
        }

        return _section;
    }

    private ITrainedModel Trained(RunDraft draft, IRunListener listener)
    {
        _loaded.ChatTemplate = NamedTemplates.Of(draft.Config, draft.ModelPath) ?? _loaded.ChatTemplate;
        if (_section is { } section && _adapter is null)
        {
            listener.Stage("computing the adapter's start");
            _adapter = TrainedModel.NewAdapter(
                _loaded.Model, section, draft.Config with { Seed = _seed }, _path, () => new TrainingStartData(draft.Rows, section.InitSamples, draft.Device));
        }

        (_adapterIsTrained, _weightsAreTrained) = (_adapter is not null, _weightsAreTrained || _adapter is null);
        return TrainedModel.Of(_loaded, draft.Config, _adapter);
    }

    // The model as it is between two runs.
    private void Rest()
    {
        if (_adapter is { } adapter)
        {
            adapter.Training = false;
        }

        var stack = _loaded.Model.Stack;
        (stack.ActivationCheckpointing, stack.OffloadsActivations) = (ActivationCheckpointing.None, false);
        _loaded.Model.train(false);
        if (_adapter is null)
        {
            foreach (var parameter in _loaded.Model.parameters())
            {
                parameter.requires_grad = false;
            }
        }
    }
}
