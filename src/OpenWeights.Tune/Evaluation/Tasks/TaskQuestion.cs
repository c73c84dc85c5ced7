using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Formats;

namespace OpenWeights.Tune.Evaluation.Tasks;

/// <summary>A question of a task.</summary>
/// <param name="Prompt">The text before the answer, without examples.</param>
/// <param name="Choices">The choices; null for a question whose answer is generated.</param>
/// <param name="Gold">Number of the right choice; -1 for a question whose answer is generated.</param>
/// <param name="Expected">The right answer.</param>
/// <param name="Place">Position of the question, for messages.</param>
internal sealed partial record TaskQuestion(string Prompt, IReadOnlyList<string>? Choices, int Gold, string Expected, string Place)
{
    private static readonly string[] s_answers = ["gold", "answer", "answerKey", "label", "target", "completion", "output"];

    /// <summary>Reads the questions of a task.</summary>
    /// <exception cref="InvalidDataException">A question lacks something; the message names its position.</exception>
    internal static IReadOnlyList<TaskQuestion> Read(TaskSection task, string path, int? limit)
    {
        List<TaskQuestion> questions = [.. DataFile.ReadNamed(new DataSource { Path = path, Limit = limit }).Select(row => Of(row, task))];
        return questions.Count > 0 ? questions : throw new InvalidDataException($"{path}: there are no questions.");
    }

    private static TaskQuestion Of(DataRow row, TaskSection task)
    {
        var prompt = Prompted(row, task.Prompt);
        var gold = task.Answer is { } field ? Field(row, field) : s_answers.Select(name => row.Json[name]).FirstOrDefault(static v => v is not null)
            ?? throw row.Error($"the right answer is missing; \"answer\" of the task names its field, and the row has {Keys(row)}.");
        if (!(task.Type is "auto" ? Find(row.Json, task.Choices) is JsonArray : task.Type is "multiple_choice"))
        {
            return new TaskQuestion(prompt, null, -1, Text(gold), row.Place);
        }

        var choices = Field(row, task.Choices) is JsonArray { Count: > 1 } list
            ? list.Select(Text).ToList()
            : throw row.Error($"\"{task.Choices}\" must be a list of at least two choices.");
        var number = Number(gold, choices);
        return number >= 0 && number < choices.Count ? new TaskQuestion(prompt, choices, number, choices[number], row.Place)
            : throw row.Error($"the right answer is {gold?.ToJsonString()}, which is none of the {choices.Count} choices: neither a number from 0, nor a letter from A, nor a choice's text.");
    }

    private static int Number(JsonNode? gold, List<string> choices)
    {
        var text = Text(gold).Trim();
        return gold is JsonValue value && value.GetValueKind() == JsonValueKind.Number && value.TryGetValue(out int number) ? number
            : choices.FindIndex(c => c.Trim() == text) is >= 0 and var same ? same
            : text is [>= 'A' and <= 'Z'] ? text[0] - 'A'
            : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) ? number
            : -1;
    }

    private static string Prompted(DataRow row, string? template)
    {
        template ??= row.Has("query") ? "{query}" : row.Has("question") ? "Question: {question}\nAnswer:" : row.Has("prompt") ? "{prompt}"
            : throw row.Error($"the question has neither \"query\" nor \"question\" nor \"prompt\"; set the task's prompt, in which {{name}} stands for a field. The row has {Keys(row)}.");
        return Name().Replace(template, match => Text(Field(row, match.Groups[1].Value)));
    }

    private static JsonNode? Field(DataRow row, string name) => Find(row.Json, name) ?? throw row.Error($"\"{name}\" is missing; the row has {Keys(row)}.");

    private static JsonNode? Find(JsonObject row, string name)
    {
        JsonNode? node = row;
        foreach (var part in row.ContainsKey(name) ? [name] : name.Split('.'))
        {
            node = (node as JsonObject)?[part];
        }

        return node;
    }

    private static string Text(JsonNode? node) => node is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : node?.ToJsonString() ?? "";

    private static string Keys(DataRow row) => string.Join(", ", row.Json.Select(static p => p.Key).Take(20));

    [GeneratedRegex(@"\{([A-Za-z_][A-Za-z0-9_.]*)\}")]
    private static partial Regex Name();
}
