using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Checkpoints;
using OpenWeights.Tune.Training.Memory;
using OpenWeights.Tune.Training.Ranks;
using OpenWeights.Tune.Training.Recording;
using OpenWeights.Tune.Training.Recording.Mlflow;

namespace OpenWeights.Tune.Training;

/// <summary>A training run from config to result: data, model, training loop, evaluation, checkpoints.</summary>
public sealed class TrainingRun : IDisposable
{
    private const double LongMeasurement = 20;

    // How the first rank begins the run, if not at a checkpoint's step.
    private const long Finished = -2;
    private const long AtStart = -1;

    private readonly RunDraft _draft;
    private readonly RunConfig _config;
    private readonly IRunListener _listener;
    private readonly ITrainedModel _trained;
    private readonly Trainer _trainer;
    private readonly IReferencePolicy? _reference;
    private readonly IObjective _objective;
    private readonly RankGroup _ranks;
    private readonly PreferenceWatch _watch = new();
    private readonly RewardWatch _rewardWatch = new();

    /// <summary>Creates a run of a loaded model.</summary>
    /// <param name="draft">The run.</param>
    /// <param name="trained">The model with its trained parameters; the run takes ownership.</param>
    /// <param name="listener">Receives the run's events.</param>
    internal TrainingRun(RunDraft draft, ITrainedModel trained, IRunListener listener)
    {
        ArgumentNullException.ThrowIfNull(draft);
        ArgumentNullException.ThrowIfNull(trained);
        ArgumentNullException.ThrowIfNull(listener);
        (_draft, _config, _trained, _listener, Plan, _ranks) = (draft, draft.Config, trained, draft.Ranks.IsFirst ? listener : SilentRank.Instance, draft.Plan, draft.Ranks);
        RunAgreement.OnTensors(_ranks, trained);
        var kind = ObjectiveKinds.Of(_config.Objective);
        _reference = kind.ComparesWithReference(_config.Objective) ? ReferencePolicies.Create(draft, trained, _listener) : null;
        _objective = kind.Create(draft.ObjectiveContext with { Reference = _reference, TeacherAnswers = draft.TeacherAnswers?.Open(isLast: true) });
        if (!_ranks.IsAlone && _objective is IRankedObjective ranked)
        {
            ranked.Join(_ranks, trained.Model.Device);
        }

        _trainer = new Trainer(trained, _objective, draft.Rows, _config, draft.TotalSteps, _ranks);
    }

    /// <summary>Reads and checks everything that a run needs, without training.</summary>
    /// <param name="config">The config.</param>
    /// <param name="listener">Receives the run's events.</param>
    /// <param name="options">Options.</param>
    /// <exception cref="ConfigException">The config is invalid; the exception lists all problems.</exception>
    /// <exception cref="InvalidDataException">The model or the data is invalid.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    /// <exception cref="ConfigException">The run does not fit into the available memory, and the options do not ignore this.</exception>
    public static TrainingRun Prepare(RunConfig config, IRunListener listener, RunOptions options = default)
    {
        var draft = RunDraft.Read(config, listener, options);
        if (!options.IgnoreMemory)
        {
            draft.RequireMemory();
        }

        return Prepare(draft, listener);
    }

    /// <summary>Loads the weights of a prepared run.</summary>
    /// <param name="draft">The run.</param>
    /// <param name="listener">Receives the run's events.</param>
    /// <exception cref="InvalidDataException">The model is invalid.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    internal static TrainingRun Prepare(RunDraft draft, IRunListener listener)
    {
        ArgumentNullException.ThrowIfNull(draft);
        return Prepare(draft, listener, () => draft.LoadModel(listener));
    }

    /// <summary>Takes the model of a prepared run from where it is.</summary>
    /// <param name="draft">The run.</param>
    /// <param name="listener">Receives the run's events.</param>
    /// <param name="load">Loads the model.</param>
    internal static TrainingRun Prepare(RunDraft draft, IRunListener listener, Func<ITrainedModel> load)
    {
        // Before the policy is loaded, so that both are not in memory together; the plan says whether they were there.
        _ = draft.Plan;
        listener = draft.Ranks.IsFirst ? listener : SilentRank.Instance;
        _ = draft.Ranks.OncePerHost("computing what the run compares with", () =>
        {
            draft.Precompute(listener);
            return true;
        });
        using var doing = draft.Ranks.Activity?.Do("loading the model");
        return new TrainingRun(draft, load(), listener);
    }

    /// <summary>The model, with its adapter.</summary>
    internal CausalLanguageModel Model => _trained.Model;

    /// <summary>Whether the run was stopped before its end.</summary>
    public bool IsStopped { get; private set; }

    /// <summary>Result of the run; null before its end, and on a rank that is not the first.</summary>
    public RunResult? Result { get; private set; }

    /// <summary>Called after each step, on every rank; null for nothing.</summary>
    internal Action<long>? Stepped { get; set; }

    /// <summary>The plan of the run.</summary>
    public RunPlan Plan { get; private set; }

    /// <summary>Runs the longest batch and an optimizer step, and measures time and memory. The weights do not change; the run cannot be trained afterwards.</summary>
    /// <exception cref="System.Runtime.InteropServices.ExternalException">It does not fit into memory.</exception>
    internal RunMeasurement Measure()
    {
        // A first run takes longer; a measurement that takes long is not repeated.
        var (rows, update) = _trainer.Measure();
        if (rows + update < LongMeasurement)
        {
            (rows, update) = _trainer.Measure();
        }

        var train = _draft.Data.Train;
        var measured = (double)train.LongestRow * Math.Min(_config.Training.RowsAtOnce, train.Rows.Count);
        var usual = train.Report.Tokens / (1 - Plan.Padding) / Plan.StepsPerEpoch;

        // Of sampled answers, which may all get that long, the time without the sampling itself.
        var seconds = (_draft.Sampling is { } sampling ? rows * sampling.Accumulation : rows * usual / measured) + update;
        var peak = AvailableMemory.Taken(_draft.ModelDevices.All, Plan.Room) ?? ProcessMemory.Peak;
        return new RunMeasurement(peak, seconds, seconds * _trainer.TotalSteps);
    }

    /// <summary>
    /// Trains to the end, or until cancelled: then the current step is completed and a checkpoint written. A run prepared with
    /// <see cref="RunOptions.Resume"/> continues from the latest complete checkpoint; a finished one without further steps is not changed.
    /// </summary>
    /// <param name="overwrite">Whether an earlier run in the folder may be deleted.</param>
    /// <param name="command">The command that started the run, for the manifest.</param>
    /// <param name="stop">Stops the run after the current step.</param>
    /// <returns>Folder of the result, or null if the run was stopped.</returns>
    /// <exception cref="TrainingFailedException">The loss or a gradient is not finite.</exception>
    /// <exception cref="ConfigException">The folder contains another run, or files that this run reads.</exception>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public string? Run(bool overwrite, string command, CancellationToken stop)
    {
        if (!_ranks.IsFirst)
        {
            return Follow(stop);
        }

        var resume = _draft.Options.Resume;
        using var folder = RunFolder.Take(_config.OutputDir);
        if (resume && RunFolder.Finished(_config, Plan.TotalSteps, _ranks.Size) is { } finished)
        {
            _listener.Warn($"{finished.NothingToDo}, or overwrite the run to start over.");
            _ = Begins(Finished);
            Result = finished;
            return finished.Folder;
        }

        var reached = Begin(folder, resume, overwrite, command);
        Plan = Plan with { StepsDone = _trainer.StepsDone };
        _listener.Planned(Plan);
        using var mlflow = BeginMlflow(folder, reached is not null);
        using var recorder = new RunRecorder(folder, Plan, mlflow);
        var evaluation = new RunEvaluation(_draft, _trained, _objective, new AveragedWeights(_trained, _trainer.Average), _trainer.Shards, folder, recorder, _listener, reached);
        if (_trainer.StepsDone == 0)
        {
            evaluation.Ask(0, "before training", stop);
        }

        if (!Loop(folder, recorder, evaluation, stop))
        {
            recorder.Report($"stopped after {_trainer.StepsDone} steps");
            mlflow?.End("KILLED", []);
            return null;
        }

        var result = evaluation.Choose(_trainer.StepsDone);
        evaluation.Ask(_trainer.StepsDone, "after training", stop);
        _trainer.Shards.Lead(() => Write(result, folder, recorder));
        EndMlflow(mlflow, folder, result);

        // An mpirun may end this rank when another has ended.
        _ranks.MeetPatiently();
        Result = result;
        return result.Folder;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _trainer.Dispose();
        (_objective as IDisposable)?.Dispose();
        _reference?.Dispose();
        _trained.Dispose();
    }

    // What an MLflow server gets of the run's files.
    private List<(string Name, string Path)> Artifacts(RunFolder folder, RunResult result)
    {
        var wanted = _config.Mlflow?.Artifacts ?? "none";
        string[] report = wanted == "none" ? [] : [folder.ConfigPath, folder.ManifestPath, folder.ReportPath];
        var whole = wanted == "result" ? Directory.EnumerateFiles(result.Folder, "*", SearchOption.AllDirectories) : [];
        return [.. report.Concat(whole).Select(path => (Path.GetRelativePath(folder.FolderPath, path).Replace('\\', '/'), path))];
    }

    // The server may take its time, and has limits of its own.
    private MlflowRecorder? BeginMlflow(RunFolder folder, bool resumes)
    {
        using var outside = _ranks.Activity?.Outside();
        return MlflowRecorder.Of(_config, folder, resumes, _listener.Warn);
    }

    private void EndMlflow(MlflowRecorder? mlflow, RunFolder folder, RunResult result)
    {
        using var outside = _ranks.Activity?.Outside();
        mlflow?.End("FINISHED", Artifacts(folder, result));
    }

    private IFollowingReference? Following => _config.Objective.SyncRefModel ? _reference as IFollowingReference : null;

    // State of a resumed run; null for a new one.
    private TrainerState? Begin(RunFolder folder, bool resume, bool overwrite, string command)
    {
        RunFolder.RequireFree(_config, resume, overwrite);
        folder.Clean();
        TrainerState? reached = null;
        if (resume && folder.Checkpoints.Newest(_listener.Warn) is { } newest)
        {
            ResumeCheck.Run(folder.ConfigPath, _config, _listener.Warn, (RunManifest.Ranks(folder.FolderPath), _ranks.Size));
            _ = Begins(newest.Step);
            reached = RunCheckpoint.Restore(newest.Folder, _trained, _trainer.Optimizer, _trainer.Ema, Following);
            _trainer.State = reached;
        }
        else
        {
            if (resume)
            {
                _listener.Warn($"{folder.FolderPath} has no complete checkpoint to resume from; the run starts from the beginning.");
            }

            // An unfinished run without a complete checkpoint has nothing to lose.
            RunFolder.RequireFree(_config, resume: false, overwrite || (resume && !folder.HasResult));
            folder.StartAnew(_listener.Warn);
            _ = Begins(AtStart);
        }

        // The manifest identifies the folder as that of a run, so it comes first.
        RunManifest.Write(folder.ManifestPath, _config, _draft.Folder, command, reached is null ? null : _listener.Warn, _ranks.Size);
        AtomicFile.WriteText(folder.ConfigPath, ConfigWriter.Write(_config));
        return reached;
    }

    // Tells the other ranks how the run begins, or is told so.
    private long Begins(long step) => (long)_ranks.Gather([step], _trained.Model.Device)[0][0];

    // The run on a rank that is not the first: it computes its share, and writes nothing.
    private string? Follow(CancellationToken stop)
    {
        var step = Begins(AtStart);
        if (step == Finished)
        {
            return null;
        }

        TrainerState? reached = null;
        if (step != AtStart)
        {
            var folder = RunFolder.CheckpointsOf(_config.OutputDir).PathOf(step);
            if (!Directory.Exists(folder))
            {
                throw new IOException($"{folder} is not on this machine; to resume a run, output_dir must be a folder that all machines see.");
            }

            reached = RunCheckpoint.Restore(folder, _trained, _trainer.Optimizer, _trainer.Ema, Following);
            _trainer.State = reached;
        }

        var evaluation = new RunEvaluation(_draft, _trained, _objective, new AveragedWeights(_trained, _trainer.Average), _trainer.Shards, null, null, _listener, reached);
        if (_trainer.StepsDone == 0)
        {
            evaluation.Ask(0, "before training", stop);
        }

        if (Loop(null, null, evaluation, stop))
        {
            evaluation.FollowChoice();
            evaluation.Ask(_trainer.StepsDone, "after training", stop);
            _trainer.Shards.Follow();
            _ranks.MeetPatiently();
        }

        return null;
    }

    // False if the run was stopped. All ranks stop after the same step.
    private bool Loop(RunFolder? folder, RunRecorder? recorder, RunEvaluation evaluation, CancellationToken stop)
    {
        var saved = _trainer.StepsDone;
        if (_config.Training.WorstBatchFirst == true && saved < _trainer.TotalSteps)
        {
            _listener.Stage("trying the longest rows");
            _trainer.Rehearse();
        }

        // A run stopped just before an evaluation does it after resuming.
        if (saved > 0 && evaluation.IsDue(saved))
        {
            evaluation.Run(saved, stop);
        }

        var stops = _ranks.Any(stop.IsCancellationRequested, _trained.Model.Device);
        while (_trainer.StepsDone < _trainer.TotalSteps && !evaluation.StopsEarly)
        {
            if (stops)
            {
                if (_trainer.StepsDone > saved || saved == 0)
                {
                    Save(folder, evaluation);
                }

                IsStopped = true;
                return false;
            }

            var step = Step(recorder, evaluation);
            stops = _ranks.Any(stop.IsCancellationRequested, _trained.Model.Device);
            if (!stops && evaluation.IsDue(step))
            {
                evaluation.Run(step, stop);
                stops = _ranks.Any(stop.IsCancellationRequested, _trained.Model.Device);
            }

            var (every, last) = (_config.Checkpoint.EverySteps, step == _trainer.TotalSteps || evaluation.StopsEarly);
            if (every > 0 && (last || step % every == 0))
            {
                Save(folder, evaluation);
                recorder?.Report($"running, {step} steps done");
                saved = step;
            }
        }

        return true;
    }

    private long Step(RunRecorder? recorder, RunEvaluation evaluation)
    {
        var step = _trainer.Step();
        if (step.Step % _config.Objective.RefModelSyncSteps == 0)
        {
            Following?.Follow(_config.Objective.RefModelMixupAlpha);
        }

        recorder?.Add(step);
        var samples = _objective.TakeSamples();
        recorder?.Add(step.Step, samples);
        evaluation.Stepped(step);
        _watch.Add(step.Objective);
        foreach (var warning in _objective.TakeWarnings().Concat(_rewardWatch.Add(step.Objective)))
        {
            _listener.Warn(warning);
        }

        _listener.Stepped(step, _trainer.TotalSteps);
        Stepped?.Invoke(step.Step);
        if (step.Overflowed)
        {
            _listener.Warn($"step {step.Step} was skipped: its gradients overflow in float16 at loss scale {step.LossScale}, which is halved.");
        }
        else if (step.Skipped)
        {
            _listener.Warn($"step {step.Step} was skipped: its loss is {step.Loss}, its gradient norm {step.GradNorm}. Its rows: {step.Rows}.");
        }
        else if (step.Spike)
        {
            _listener.Warn($"the loss of step {step.Step} is a spike: {step.Loss:F4}. Its rows: {step.Rows}.");
        }

        return step.Step;
    }

    private void Save(RunFolder? folder, RunEvaluation evaluation)
    {
        if (folder is null)
        {
            _trainer.Shards.Follow();
            _trainer.Shards.FollowState();
            return;
        }

        using var doing = _ranks.Activity?.Do("writing a checkpoint");
        var step = _trainer.StepsDone;
        folder.Checkpoints.Save(step, _config.Checkpoint.Keep, path => RunCheckpoint.Write(path, _trained, _trainer.Shards, _trainer.Ema, evaluation.AddTo(_trainer.State), Following));
        _listener.Checkpointed(step);
    }

    private void Write(RunResult result, RunFolder folder, RunRecorder recorder)
    {
        using var doing = _ranks.Activity?.Do("writing the result");
        AtomicFolder.Write(result.Folder, _trained.Save, replace: true);
        if (_config.Adapter is not null && AdapterEffect.IsNone(AdapterFolder.Open(result.Folder), _trained.Model))
        {
            _listener.Warn($"training had no effect: in {result.Folder} {AdapterEffect.Reason}. Check that training.learning_rate is not 0 and training.warmup_steps is shorter than the run.");
        }

        foreach (var advice in _watch.Advice())
        {
            _listener.Warn(advice);
        }

        RunManifest.Add(folder.ManifestPath, result);
        var state = _trainer.StepsDone < _trainer.TotalSteps ? $"stopped early after {_trainer.StepsDone} steps" : "finished";
        recorder.Report(result.Choice is { } choice ? $"{state}; {choice}" : state);
    }
}
