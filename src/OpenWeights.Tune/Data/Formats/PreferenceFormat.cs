using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Preferences: a chosen and a rejected answer, or one answer with a label (KTO). The answers are texts after a "prompt" or
/// "instruction", messages after a "prompt", "messages" or "conversations", or complete chats. Only the answers are trained.
/// </summary>
internal sealed class PreferenceFormat : IRowFormat
{
    private static readonly string[] s_labels = ["label", "kto_tag"];

    /// <inheritdoc/>
    public string Name => "preference";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row is not null && (Pair(row) is not null || (Label(row) is not null && (ChatFormat.List(row) is not null || (row["prompt"] is not null && row["completion"] is not null))));

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (Pair(row.Json) is not var (chosen, rejected))
        {
            return [Labelled(row, tokenizer)];
        }

        return
        [
            Answer(row, tokenizer, chosen) with { Role = RowRole.Chosen, Margin = Margin(row) },
            Answer(row, tokenizer, rejected) with { Role = RowRole.Rejected },
        ];
    }

    private static (JsonNode Chosen, JsonNode Rejected)? Pair(JsonObject row) =>
        row["chosen"] is { } chosen && row["rejected"] is { } rejected ? (chosen, rejected)
        : row["chosen_messages"] is { } first && row["rejected_messages"] is { } second ? (first, second)
        : null;

    private static JsonNode? Label(JsonObject row) => s_labels.Select(l => row[l]).FirstOrDefault(static l => l is not null);

    /// <summary>The label of a row with one answer.</summary>
    /// <exception cref="InvalidDataException">There is none, or it is neither true nor false.</exception>
    internal static bool IsDesired(DataRow row)
    {
        var label = Label(row.Json) ?? throw row.Error("a preference needs \"chosen\" and \"rejected\", or \"label\"; this row has neither.");
        return label.GetValueKind() switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            _ => label.ToString().ToLowerInvariant() switch
            {
                "1" or "true" => true,
                "0" or "false" or "-1" => false,
                var other => throw row.Error($"\"label\" is '{other}'; it must be true or false."),
            },
        };
    }

    /// <summary>By how much the chosen answer's reward should exceed the rejected one's; 0 if the row does not say.</summary>
    /// <exception cref="InvalidDataException">It is not a number.</exception>
    internal static double Margin(DataRow row) => row.Json["margin"] switch
    {
        null => 0,
        JsonValue value when value.GetValueKind() == JsonValueKind.Number => double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture),
        JsonValue value when double.TryParse(value.ToString(), NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number) => number,
        var other => throw row.Error($"\"margin\" is {other.ToJsonString()}; it must be a number."),
    };

    private static TokenRow Labelled(DataRow row, RowTokenizer tokenizer)
    {
        var answer = ChatFormat.List(row.Json) is { } messages ? Whole(row, tokenizer, messages) : Answer(row, tokenizer, row.Json["completion"] ?? throw row.Error("\"completion\" is missing."));
        return answer with { Role = IsDesired(row) ? RowRole.Desired : RowRole.Undesired };
    }

    private static TokenRow Answer(DataRow row, RowTokenizer tokenizer, JsonNode answer)
    {
        if (answer is JsonArray or JsonObject)
        {
            return Whole(row, tokenizer, answer);
        }

        if (answer.GetValueKind() != JsonValueKind.String || string.IsNullOrWhiteSpace(answer.GetValue<string>()))
        {
            throw row.Error("an answer must be a nonempty string, or messages.");
        }

        var text = answer.GetValue<string>();
        JsonNode Reply() => new JsonObject { ["role"] = "assistant", ["content"] = text };
        if (ChatFormat.List(row.Json) is { } messages)
        {
            return ChatFormat.Answer(row, tokenizer, messages, Reply());
        }

        if (row.Json["prompt"] is JsonArray asking)
        {
            return ChatFormat.Answer(row, tokenizer, asking, Reply());
        }

        if (row.Has("prompt"))
        {
            var prompt = CompletionFormat.Prompt(row);
            return tokenizer.Plain(prompt + text, prompt.Length, row.Place);
        }

        // Two whole texts, whose common beginning is the prompt.
        if (!row.Has("instruction") && !row.Has("question") && CommonStart(row) is { } common)
        {
            return tokenizer.Plain(text, common, row.Place);
        }

        if (tokenizer.Chat is null)
        {
            RowHistory.Refuse(row, "the model has no chat template to write its turns with");
            var asked = row.System is { } system ? $"{system}\n\n{InstructionFormat.AsPrompt(row)}" : InstructionFormat.AsPrompt(row);
            return tokenizer.Plain(asked + text, asked.Length, row.Place);
        }

        var turns = RowHistory.Of(row);
        turns.Add((JsonNode)new JsonObject { ["role"] = "user", ["content"] = InstructionFormat.AsQuestion(row) });
        return ChatFormat.Answer(row, tokenizer, turns, Reply());
    }

    // Up to the first character in which both answers differ, or the space before it, as TRL's extract_prompt; null if they are not two texts.
    private static int? CommonStart(DataRow row)
    {
        if (row.Json["chosen"] is not JsonValue first || row.Json["rejected"] is not JsonValue second || !first.TryGetValue<string>(out var chosen) || !second.TryGetValue<string>(out var rejected))
        {
            return null;
        }

        var common = chosen.AsSpan().CommonPrefixLength(rejected);
        return common > 0 && chosen[common - 1] == ' ' ? common - 1 : common;
    }

    private static TokenRow Whole(DataRow row, RowTokenizer tokenizer, JsonNode answer)
    {
        var before = ReferenceEquals(answer, ChatFormat.List(row.Json)) ? null : ChatFormat.List(row.Json) ?? row.Json["prompt"] as JsonArray;
        if (before is null && row.Json["prompt"] is JsonValue && answer is JsonObject or JsonArray { Count: 1 })
        {
            before = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = row.Text("prompt") });
        }

        return ChatFormat.Answer(row, tokenizer, before, answer);
    }
}
