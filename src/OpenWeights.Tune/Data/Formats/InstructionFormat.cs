using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Alpaca's rows: {"instruction": "...", "input": "...", "output": "..."}, or {"question": "...", "answer": "..."}. They become a chat
/// of one question and answer if the model has a chat template, otherwise Alpaca's prompt.
/// </summary>
internal sealed class InstructionFormat : IRowFormat
{
    private readonly ChatFormat _chat = new();
    private readonly CompletionFormat _completion = new();

    /// <inheritdoc/>
    public string Name => "instruction";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row is not null && ((row["instruction"] is not null && row["output"] is not null) || (row["question"] is not null && row["answer"] is not null));

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
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

    /// <summary>The instruction as a user message.</summary>
    internal static string AsQuestion(DataRow row)
    {
        var (instruction, input) = Parts(row);
        return input.Length == 0 ? instruction : $"{instruction}\n\n{input}";
    }

    /// <summary>The prompt of Stanford Alpaca, verbatim.</summary>
    internal static string AsPrompt(DataRow row)
    {
        var (instruction, input) = Parts(row);
        return input.Length == 0
            ? $"Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
            : $"Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n";
    }

    private static (string Instruction, string Input) Parts(DataRow row)
    {
        var instruction = row.Text(row.Has("instruction") || !row.Has("question") ? "instruction" : "question");
        return string.IsNullOrWhiteSpace(instruction) ? throw row.Error("the instruction is empty.") : (instruction, row.Has("input") ? row.Text("input") : "");
    }

    private static string Output(DataRow row)
    {
        var output = row.Text(row.Has("output") || !row.Has("answer") ? "output" : "answer");
        return string.IsNullOrWhiteSpace(output) ? throw row.Error("the output is empty.") : output;
    }

    private static DataRow AsChat(DataRow row)
    {
        var messages = RowHistory.Of(row);
        messages.Add((JsonNode)new JsonObject { ["role"] = "user", ["content"] = AsQuestion(row) });
        messages.Add((JsonNode)new JsonObject { ["role"] = "assistant", ["content"] = Output(row) });
        return row with { Json = new JsonObject { ["messages"] = messages, ["system"] = row.System } };
    }

    private static DataRow AsCompletion(DataRow row)
    {
        RowHistory.Refuse(row, "the model has no chat template to write its turns with");
        return row with { Json = new JsonObject { ["prompt"] = AsPrompt(row), ["completion"] = Output(row), ["system"] = row.System } };
    }
}
