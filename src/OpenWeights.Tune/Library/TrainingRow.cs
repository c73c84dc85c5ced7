using System.Text.Json.Nodes;

namespace OpenWeights.Tune;

/// <summary>
/// A row to train on, as a line of a data file would have it: a chat, a prompt with its completion, a text, or a preference. <see cref="Of"/> takes a
/// row of any format that data files can have.
/// </summary>
public sealed class TrainingRow
{
    private TrainingRow(JsonObject json) => Json = json;

    internal JsonObject Json { get; }

    /// <summary>A chat, rendered with the model's chat template; the assistant's turns are trained.</summary>
    /// <param name="turns">The messages.</param>
    public static TrainingRow Chat(params IEnumerable<ChatTurn> turns) => new(new JsonObject { ["messages"] = ChatTurn.Messages(turns) });

    /// <summary>A prompt and its completion, which is trained; no chat template is used.</summary>
    /// <param name="prompt">The prompt.</param>
    /// <param name="completion">What follows it.</param>
    public static TrainingRow Completion(string prompt, string completion) => new(new JsonObject { ["prompt"] = prompt, ["completion"] = completion });

    /// <summary>A text, all of which is trained.</summary>
    /// <param name="text">The text.</param>
    public static TrainingRow Text(string text) => new(new JsonObject { ["text"] = text });

    /// <summary>A question with a better and a worse answer, for objectives such as dpo.</summary>
    /// <param name="question">What the user says.</param>
    /// <param name="chosen">The better answer.</param>
    /// <param name="rejected">The worse answer.</param>
    public static TrainingRow Preference(string question, string chosen, string rejected) => new(new JsonObject
    {
        ["prompt"] = ChatTurn.Messages([ChatTurn.User(question)]),
        ["chosen"] = ChatTurn.Messages([ChatTurn.Assistant(chosen)]),
        ["rejected"] = ChatTurn.Messages([ChatTurn.Assistant(rejected)]),
    });

    /// <summary>A row with the keys and values that a line of a data file would have.</summary>
    /// <param name="row">The row; later changes of it have no effect.</param>
    public static TrainingRow Of(JsonObject row)
    {
        ArgumentNullException.ThrowIfNull(row);
        return new(row.DeepClone().AsObject());
    }
}
