using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>LLaMA-Factory's "history": the turns before the last question, as pairs [question, answer].</summary>
internal static class RowHistory
{
    private const string Field = "history";

    /// <summary>The turns as messages; empty if the row has no history.</summary>
    /// <exception cref="InvalidDataException">It is not a list of pairs of texts.</exception>
    internal static JsonArray Of(DataRow row)
    {
        var node = row.Json[Field] is JsonValue text && text.GetValueKind() == JsonValueKind.String
            ? string.IsNullOrWhiteSpace(text.GetValue<string>()) ? null : row.Nested($"\"{Field}\"", text.GetValue<string>())
            : row.Json[Field];
        var messages = new JsonArray();
        if (node is null)
        {
            return messages;
        }

        foreach (var turn in node as JsonArray ?? throw Wrong(row))
        {
            if (turn is not JsonArray { Count: 2 } pair || pair.Any(static t => t?.GetValueKind() != JsonValueKind.String))
            {
                throw Wrong(row);
            }

            messages.Add((JsonNode)new JsonObject { ["role"] = "user", ["content"] = pair[0]!.DeepClone() });
            messages.Add((JsonNode)new JsonObject { ["role"] = "assistant", ["content"] = pair[1]!.DeepClone() });
        }

        return messages;
    }

    /// <summary>Throws for formats that cannot represent a history.</summary>
    /// <exception cref="InvalidDataException">The row has one.</exception>
    internal static void Refuse(DataRow row, string reason)
    {
        if (Of(row).Count > 0)
        {
            throw row.Error($"\"{Field}\" cannot be read: {reason}. Give the turns as messages, or model.chat_template.");
        }
    }

    private static InvalidDataException Wrong(DataRow row) => row.Error($"\"{Field}\" must be a list of pairs, [[\"question\", \"answer\"], ...], the turns before the last.");
}
