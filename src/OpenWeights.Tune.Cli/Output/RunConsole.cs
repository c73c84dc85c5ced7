using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Recording;
using Spectre.Console;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Shows a run: an updating line on a terminal, otherwise plain lines. Progress goes to stderr, results to stdout.</summary>
internal sealed class RunConsole : IRunListener
{
    private static readonly TimeSpan s_between = TimeSpan.FromSeconds(2);

    // The progress bar and the metrics of a step.
    private const int WideLine = 140;
    private const int WideBar = 40;
    private const int NarrowBar = 20;
    private const string Reward = "reward";
    private const string Before = "before training";
    private const string After = "after training";
    private readonly IAnsiConsole? _terminal;
    private readonly bool _json;
    private readonly bool _isNarrow;
    private readonly long _started = Stopwatch.GetTimestamp();
    private readonly Dictionary<string, IReadOnlyList<Answer>> _answers = [];
    private EvaluationRows _asked;
    private ProgressContext? _progress;
    private ProgressTask? _task;
    private long _firstStep = -1;
    private long _trainingSince;
    private long _lastLine;

    internal RunConsole(bool json)
    {
        _json = json;
        if (!Console.IsErrorRedirected && !json)
        {
            _terminal = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
            _isNarrow = _terminal.Profile.Width < WideLine;
        }
    }

    /// <summary>Runs an action, with the updating line on a terminal.</summary>
    internal T Show<T>(Func<T> work)
    {
        if (_terminal is null)
        {
            return work();
        }

        return _terminal.Progress()
            .AutoClear(true)
            .Columns(new SpinnerColumn(), new ProgressBarColumn { Width = _isNarrow ? NarrowBar : WideBar }, new PercentageColumn(), new TaskDescriptionColumn { Alignment = Justify.Left })
            .Start(context =>
            {
                _progress = context;
                return work();
            });
    }

    public void Warn(string message) => Line($"warning: {message}");

    public void Stage(string what) => Line($"{what} ...");

    public void Planned(RunPlan plan)
    {
        foreach (var line in PlanText.Lines(plan))
        {
            Line(line);
        }

        _trainingSince = Stopwatch.GetTimestamp();
        _task = _progress?.AddTask("training", maxValue: plan.TotalSteps);
        if (_task is not null)
        {
            _task.Value = plan.StepsDone;
        }
    }

    public void Stepped(StepMetrics metrics, long totalSteps)
    {
        if (_json)
        {
            JsonLines.Write(metrics);
        }

        if (_firstStep < 0)
        {
            (_firstStep, _trainingSince) = (metrics.Step, Stopwatch.GetTimestamp());
        }

        // On a policy's own answers the loss is near 0 whatever is learned.
        var loss = metrics.Objective.ContainsKey(Reward) ? "" : $"  loss {Amount.Number(metrics.Loss, "F4")}";
        var (place, left) = ($"step {metrics.Step}/{totalSteps}{loss}{Shown(metrics.Objective)}", Left(metrics.Step, totalSteps));
        var text = $"{place}  rate {Amount.Number(metrics.LearningRate, "0.00e0")}  norm {Amount.Number(metrics.GradNorm, "F2")}  "
            + $"{Amount.Count((long)metrics.TokensPerSecond)} tokens/s  {left}  {Amount.Bytes(metrics.PeakMemoryBytes)}{Waiting(metrics)}";
        if (_task is not null)
        {
            _task.Value = metrics.Step;
            _task.Description = Markup.Escape(_isNarrow ? $"{place}  {left}" : text);
        }
        else if (_terminal is null && (metrics.Step == 1 || metrics.Step == totalSteps || Stopwatch.GetElapsedTime(_lastLine) > s_between))
        {
            _lastLine = Stopwatch.GetTimestamp();
            Line(text);
        }
    }

    // Of several ranks, how much of the time nothing was computed.
    private static string Waiting(StepMetrics metrics) => metrics.CommunicationSeconds is { } seconds ? $"  {Amount.Percent(seconds / metrics.Seconds)} of the time communication" : "";

    public void Evaluated(EvaluationMetrics metrics)
    {
        if (_json)
        {
            JsonLines.Write(metrics);
        }

        var more = metrics is { Perplexity: { } perplexity, TokenAccuracy: { } accuracy }
            ? $"perplexity {Amount.Number(perplexity, "F2")}  token accuracy {Amount.Percent(accuracy)}"
            : Shown(metrics.Objective.ToDictionary(static m => m.Key["eval_".Length..], static m => m.Value)).Trim();
        Line(metrics.Objective.ContainsKey($"eval_{Reward}") ? $"step {metrics.Step}  eval {more}" : $"step {metrics.Step}  eval loss {Amount.Number(metrics.Loss, "F4")}  {more}".TrimEnd());
    }

    // The metrics of preferences, of sampled answers, classes and vectors that fit into a line.
    private static string Shown(IReadOnlyDictionary<string, double> metrics) => string.Concat(new[] { (Reward, "reward"), ("frac_reward_zero_std", "equal"), ("completions/mean_length", "length"), ("rewards/accuracies", "accuracy"), ("rewards/margins", "margin"), ("kl", "kl"), ("accuracy", "accuracy"), ("f1", "f1"), ("margin", "margin"), ("recall@1", "recall@1"), ("mrr", "mrr") }
        .Where(m => metrics.ContainsKey(m.Item1)).Select(m => $"  {m.Item2} {Amount.Number(metrics[m.Item1], "F3")}"));

    public void Checkpointed(long step) => Line($"step {step}  checkpoint written");

    public void Answered(AnswerScores scores, IReadOnlyList<Answer> answers)
    {
        if (_json)
        {
            JsonLines.Write(Reported(scores));
        }

        if (scores.When is Before or After)
        {
            _answers[scores.When] = answers;
            _asked = scores.Asked;
            Line($"{scores.When}: {answers.Count(static a => a.IsExact)} of {answers.Count} {(scores.Asked == EvaluationRows.Trained ? "" : "eval ")}answers are exactly right, chrF {Amount.Number(scores.ChrF, "F1")}, BLEU {Amount.Number(scores.Bleu, "F1")}{string.Concat(scores.Metrics.Select(static m => $", {m.Key} {Amount.Number(m.Value, "F3")}"))}");
            return;
        }

        foreach (var answer in answers)
        {
            Line($"  {AnswerText.Line(answer.Prompt)} -> {AnswerText.Line(answer.Given)}{(answer.IsExact ? "" : $"  (expected {AnswerText.Line(answer.Expected)})")}");
        }
    }

    private static JsonObject Reported(AnswerScores scores)
    {
        var line = JsonSerializer.SerializeToNode(scores)!.AsObject();
        foreach (var (name, value) in scores.Metrics)
        {
            line[$"eval_{name}"] = double.IsFinite(value) ? value : null;
        }

        return line;
    }

    /// <summary>Reports in JSON that the run was stopped.</summary>
    internal void Stop()
    {
        if (_json)
        {
            JsonLines.Write(new JsonObject { ["result"] = null, ["stopped"] = true });
        }
    }

    /// <summary>Reports that the run is already finished.</summary>
    internal void AlreadyFinished(RunResult result)
    {
        if (_json)
        {
            JsonLines.Write(new JsonObject { ["result"] = result.Folder, ["step"] = result.Step, ["last_step"] = result.LastStep, ["best_step"] = result.BestStep });
            return;
        }

        Console.Out.WriteLine($"{result.NothingToDo}, or give --overwrite in the place of --resume to start over.");
    }

    /// <summary>Prints the result of the run.</summary>
    internal void Finish(RunResult result)
    {
        // A resumed run generated the "before" answers in its first part.
        if (_answers.TryGetValue(After, out var last) && !_answers.ContainsKey(Before) && Recorded(result) is { } first && first.Select(static a => a.Prompt).SequenceEqual(last.Select(static a => a.Prompt)))
        {
            _answers[Before] = first;
        }

        if (_json)
        {
            // Values that were not measured are omitted.
            var line = new JsonObject { ["result"] = result.Folder, ["step"] = result.Step, ["last_step"] = result.LastStep, ["best_step"] = result.BestStep };
            if (_answers.Count > 0)
            {
                line["exact_match"] = new JsonObject(_answers.Select(static a => KeyValuePair.Create(a.Key.Replace(' ', '_'), (JsonNode?)Exact(a.Value))));
            }

            JsonLines.Write(line);
            return;
        }

        if (_answers.TryGetValue(After, out var after))
        {
            var before = _answers.GetValueOrDefault(Before);
            AnswerText.Write(Console.Out, before, after, _asked);
        }

        if (result.Choice is { } choice)
        {
            Console.Out.WriteLine(choice);
        }

        Console.Out.WriteLine($"{result.Name} written to {ShownPath.Of(result.Folder)} after {Amount.Time(Stopwatch.GetElapsedTime(_started))}");
    }

    private static List<Answer>? Recorded(RunResult result)
    {
        var path = Path.Combine(Path.GetDirectoryName(result.Folder)!, "samples.jsonl");
        return File.Exists(path)
            ? [.. File.ReadLines(path).Where(static l => l.Contains("\"given\":", StringComparison.Ordinal)).Select(static l => JsonSerializer.Deserialize<Sample>(l)!).Where(static s => s.When == Before).Select(static s => new Answer(s.Prompt, s.Expected, s.Given))]
            : null;
    }

    private static double Exact(IReadOnlyList<Answer> answers) => (double)answers.Count(static a => a.IsExact) / answers.Count;

    private string Left(long step, long total)
    {
        var done = step - _firstStep;
        return done <= 0 ? "" : $"{Amount.Time(Stopwatch.GetElapsedTime(_trainingSince) / done * (total - step))} left";
    }

    private void Line(string text)
    {
        if (_terminal is not null)
        {
            _terminal.WriteLine(text);
        }
        else
        {
            Console.Error.WriteLine(text);
        }
    }
}
