using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Alpaca's rows: {"instruction": "...", "input": "...", "output": "..."}. They are put as a chat of one question and answer where the
/// model has a chat template, and in Alpaca's own words where it has none.
/// </summary>
public sealed class InstructionFormat : IRowFormat
{
    private readonly ChatFormat _chat = new();
    private readonly CompletionFormat _completion = new();

    /// <inheritdoc/>
    public string Name => "instruction";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?.ContainsKey("instruction") == true && row.ContainsKey("output");

    /// <inheritdoc/>
    public TokenRow Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        return tokenizer.Chat is null ? _completion.Read(AsCompletion(row), tokenizer) : _chat.Read(AsChat(row), tokenizer);
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        return tokenizer.Chat is null ? _completion.Question(AsCompletion(row), tokenizer) : _chat.Question(AsChat(row), tokenizer);
    }

    private static (string Instruction, string Input, string Output) Parts(DataRow row) =>
        (row.Text("instruction"), row.Json["input"] is null ? "" : row.Text("input"), row.Text("output"));

    private static DataRow AsChat(DataRow row)
    {
        var (instruction, input, output) = Parts(row);
        var question = new JsonObject { ["role"] = "user", ["content"] = input.Length == 0 ? instruction : $"{instruction}\n\n{input}" };
        var answer = new JsonObject { ["role"] = "assistant", ["content"] = output };
        return row with { Json = new JsonObject { ["messages"] = new JsonArray(question, answer) } };
    }

    // The prompt of Stanford Alpaca's training, word for word.
    private static DataRow AsCompletion(DataRow row)
    {
        var (instruction, input, output) = Parts(row);
        var prompt = input.Length == 0
            ? $"Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
            : $"Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n";
        return row with { Json = new JsonObject { ["prompt"] = prompt, ["completion"] = output } };
    }
}
