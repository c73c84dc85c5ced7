using System.Text.Json.Nodes;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Training.Recording.Mlflow;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>Records a run: metrics.jsonl, samples.jsonl, TensorBoard events, and report.html.</summary>
internal sealed class RunRecorder : IDisposable
{
    private readonly RunFolder _folder;
    private readonly RunPlan _plan;
    private readonly LinesFile _metrics;
    private readonly LinesFile _samples;
    private readonly EventFile _events;
    private readonly MlflowRecorder? _mlflow;

    /// <summary>Opens the files of a run.</summary>
    /// <param name="folder">The run's folder.</param>
    /// <param name="plan">The plan of the run.</param>
    /// <exception cref="IOException">A file cannot be written.</exception>
    public RunRecorder(RunFolder folder, RunPlan plan)
        : this(folder, plan, null)
    {
    }

    /// <summary>Opens the files of a run that may be recorded by an MLflow server too.</summary>
    /// <param name="folder">The run's folder.</param>
    /// <param name="plan">The plan of the run.</param>
    /// <param name="mlflow">Sends the metrics to the server; null for none. The caller keeps ownership.</param>
    internal RunRecorder(RunFolder folder, RunPlan plan, MlflowRecorder? mlflow)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(plan);
        (_folder, _plan, _mlflow) = (folder, plan, mlflow);
        _metrics = new LinesFile(folder.MetricsPath, plan.StepsDone);
        _samples = new LinesFile(folder.SamplesPath, plan.StepsDone);
        _events = new EventFile(folder.FolderPath, _metrics.Read());
    }

    /// <summary>The lines of metrics.jsonl so far.</summary>
    internal IReadOnlyList<JsonObject> Metrics => _metrics.Read();

    /// <summary>Records a completed step.</summary>
    public void Add(StepMetrics metrics)
    {
        ArgumentNullException.ThrowIfNull(metrics);
        Tell(_metrics.Add(metrics, metrics.Objective));
    }

    /// <summary>Records an evaluation.</summary>
    public void Add(EvaluationMetrics metrics)
    {
        ArgumentNullException.ThrowIfNull(metrics);
        Tell(_metrics.Add(metrics, metrics.Objective));
    }

    /// <summary>Records answers to eval rows.</summary>
    /// <param name="scores">Scores of the answers.</param>
    /// <param name="answers">The answers.</param>
    public void Add(AnswerScores scores, IReadOnlyList<Answer> answers)
    {
        ArgumentNullException.ThrowIfNull(scores);
        ArgumentNullException.ThrowIfNull(answers);

        // Keys eval_... of metrics.jsonl refer only to rows that are not trained on.
        if (scores.Asked != EvaluationRows.Trained)
        {
            Tell(_metrics.Add(scores, scores.Metrics.ToDictionary(static m => $"eval_{m.Key}", static m => m.Value)));
        }

        var rows = scores.Asked switch { EvaluationRows.Trained => "train", EvaluationRows.HeldBack => "held_back", _ => "eval" };
        foreach (var answer in answers)
        {
            _ = _samples.Add(new Sample { Step = scores.Step, When = scores.When, Rows = rows, Prompt = answer.Prompt, Expected = answer.Expected, Given = answer.Given });
        }
    }

    /// <summary>Records answers that were sampled for training.</summary>
    /// <param name="step">The first step that trains on them.</param>
    /// <param name="samples">The answers, with their rewards.</param>
    public void Add(long step, IReadOnlyList<JsonObject> samples)
    {
        ArgumentNullException.ThrowIfNull(samples);
        foreach (var sample in samples)
        {
            var line = new JsonObject { ["step"] = step };
            foreach (var (key, value) in sample)
            {
                line[key] = value?.DeepClone();
            }

            _ = _samples.Add(line);
        }
    }

    private void Tell(JsonObject line)
    {
        _events.Add(line);
        _mlflow?.Add(line);
        _mlflow?.Tell();
    }

    /// <summary>Writes the report.</summary>
    /// <param name="state">State of the run, such as "finished".</param>
    public void Report(string state) =>
        RunReport.Write(_folder.ReportPath, new ReportContent(_plan, state, _metrics.Read(), _samples.Read(), File.ReadAllText(_folder.ConfigPath), File.ReadAllText(_folder.ManifestPath)));

    /// <inheritdoc/>
    public void Dispose()
    {
        _events.Dispose();
        _samples.Dispose();
        _metrics.Dispose();
    }
}
