using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Evaluation.Tasks;

/// <summary>Asks a model the questions of a task.</summary>
internal sealed class TaskRunner
{
    private readonly TaskSection _task;
    private readonly ITokenizer _tokenizer;
    private readonly IReadOnlyList<int> _endTokens;
    private readonly IReadOnlyList<TaskQuestion> _questions;
    private readonly string _examples;
    private readonly ChatRenderer? _chat;
    private readonly string _type;

    /// <summary>Reads the questions of a task.</summary>
    /// <param name="task">The task.</param>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="endTokens">Tokens that end an answer.</param>
    /// <exception cref="InvalidDataException">A question lacks something, or there is no chat template for a task that wants one.</exception>
    public TaskRunner(TaskSection task, ITokenizer tokenizer, IReadOnlyList<int> endTokens)
    {
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(tokenizer);
        (_task, _tokenizer, _endTokens) = (task, tokenizer, endTokens);
        _questions = TaskQuestion.Read(task, task.Path, task.Limit);
        Name = task.Name ?? Path.GetFileNameWithoutExtension(task.Path);
        _type = task.Type != "auto" ? task.Type : _questions[0].Choices is not null ? "multiple_choice" : AnswerJudge.IsMarked(_questions[0].Expected) ? "gsm8k" : "exact_match";
        if (_type == "multiple_choice" && _questions.FirstOrDefault(static q => q.Choices is null) is { } without)
        {
            throw new InvalidDataException($"{without.Place}: this question has no choices, and the task's first question has.");
        }

        _chat = !task.Chat ? null
            : tokenizer.ChatTemplateText is not null ? new ChatRenderer(tokenizer, endTokens)
            : throw new InvalidDataException($"the task {Name} has chat: true, and the model has no chat template.");
        _examples = Examples();
    }

    /// <summary>Name of the task.</summary>
    public string Name { get; }

    /// <summary>Number of questions.</summary>
    public int Count => _questions.Count;

    /// <summary>Asks all questions.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="batchSize">Batch size, in rows: a choice or a question each.</param>
    /// <param name="stop">Cancels between batches.</param>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public TaskResult Run(CausalLanguageModel model, int batchSize, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(model);
        return new TaskResult(Name, _type, _type == "multiple_choice" ? Choose(model, batchSize, stop) : Write(model, batchSize, stop));
    }

    private TaskAnswer[] Choose(CausalLanguageModel model, int batchSize, CancellationToken stop)
    {
        var room = ContextLimit.Of(model.Config).Tokens;
        var rows = _questions.SelectMany(q => q.Choices!.Select(c => ChoiceRow.Of(_tokenizer, Context(q), Delimiter(q, c) + c, isRendered: _chat is not null, room, q.Place))).ToList();
        var found = ChoiceRow.LogLikelihoods(model, rows, batchSize, stop);
        var (answers, at) = (new TaskAnswer[_questions.Count], 0);
        for (var i = 0; i < answers.Length; i++)
        {
            var (question, count) = (_questions[i], _questions[i].Choices!.Count);
            var scores = found[at..(at + count)];
            var byLength = scores.Select((s, c) => s / Math.Max(1, Characters(question.Choices![c]))).ToArray();
            answers[i] = new TaskAnswer(
                question.Prompt, question.Expected, question.Choices![Largest(scores)], new Dictionary<string, double> { ["acc"] = Right(scores, question), ["acc_norm"] = Right(byLength, question) }, scores)
            {
                IsCut = rows.Skip(at).Take(count).Any(static r => r.IsCut),
            };
            at += count;
        }

        return answers;
    }

    private TaskAnswer[] Write(CausalLanguageModel model, int batchSize, CancellationToken stop)
    {
        var room = ContextLimit.Of(model.Config).Tokens - _task.MaxNewTokens;
        if (room < 1)
        {
            throw new InvalidDataException($"the task {Name} has max_new_tokens: {_task.MaxNewTokens}, which leaves no room for a question in the model's context.");
        }

        var prompts = _questions.Select(q => ChoiceRow.Encode(_tokenizer, Context(q), isRendered: _chat is not null)).ToList();
        var kept = prompts.Select(p => p.Length > room ? p[^room..] : p).ToList();
        var stops = _task.Stop ?? (_type == "gsm8k" ? ["Question:"] : ["\n"]);
        var options = new GenerationOptions { MaxNewTokens = _task.MaxNewTokens, EndTokens = _endTokens };
        var texts = new TextAnswers(model, _tokenizer, _chat?.Reasoning, options, _chat is not null && _task.Stop is null ? [] : stops).ByLength(kept, batchSize, stop);
        return [.. _questions.Select((q, i) => new TaskAnswer(q.Prompt, q.Expected, texts[i].Text, Judged(texts[i].Text, q.Expected), null) { IsCut = prompts[i].Length > room })];
    }

    private Dictionary<string, double> Judged(string given, string expected) => _type == "gsm8k"
        ? new() { ["exact_match"] = AnswerJudge.IsMarkedNumber(given, expected) ? 1 : 0, ["exact_match_flexible"] = AnswerJudge.IsLastNumber(given, expected) ? 1 : 0 }
        : new() { ["exact_match"] = AnswerJudge.IsSame(given, expected, _task) ? 1 : 0 };

    // The harness's: examples and question are continued as one text, or asked as one message.
    private string Context(TaskQuestion question)
    {
        var text = _examples + question.Prompt;
        return _chat is null ? text : _chat.Render([new JsonObject { ["role"] = "user", ["content"] = text }], tools: null, addGenerationPrompt: true);
    }

    private string Examples()
    {
        if (_task.Shots == 0)
        {
            return "";
        }

        var text = new StringBuilder();
        foreach (var example in TaskQuestion.Read(_task, _task.ShotsPath!, _task.Shots))
        {
            _ = text.Append(example.Prompt).Append(Between(example.Prompt, example.Expected)).Append(example.Expected).Append("\n\n");
        }

        return text.ToString();
    }

    private string Delimiter(TaskQuestion question, string choice) => _chat is not null ? _task.Delimiter ?? "" : Between(question.Prompt, choice);

    private string Between(string prompt, string answer) =>
        _task.Delimiter ?? ((prompt.Length > 0 && char.IsWhiteSpace(prompt[^1])) || (answer.Length > 0 && char.IsWhiteSpace(answer[0])) ? "" : " ");

    // Python's length of a text.
    private static int Characters(string text) => text.EnumerateRunes().Count();

    private static double Right(double[] scores, TaskQuestion question) => Largest(scores) == question.Gold ? 1 : 0;

    private static int Largest(double[] scores) => Array.IndexOf(scores, scores.Max());
}
