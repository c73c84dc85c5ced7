using System.Text.Json.Nodes;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Rows of texts through the whole pipeline, with a character for a token.</summary>
internal static class Rows
{
    internal static readonly DataSection Unpacked = new() { Packing = false };

    internal static RunData Read(string path, string? template = CharacterTokenizer.ChatMl, DataSection? section = null, string trainOn = "assistant")
    {
        section ??= Unpacked;
        return RunData.Read(
            section.Train.Count > 0 ? section : section with { Train = [new DataSource { Path = path }], Packing = false },
            new RowTokenizer(new CharacterTokenizer(template), trainOn), CharacterTokenizer.Vocabulary, seed: 1, kind: null);
    }

    internal static RowList Of(TemporaryFolder folder, params string[] json) => Read(folder.Write("rows.jsonl", string.Join('\n', json) + "\n")).Train.Rows;

    internal static string Text(TokenRow row) => string.Concat(row.Ids.Select(static i => (char)i));

    /// <summary>What of a row is trained, with a bar between stretches.</summary>
    internal static string Trained(TokenRow row) =>
        string.Concat(row.Labels.Select(static l => l == TokenRow.Ignored ? "\0" : ((char)l).ToString())).Split('\0', StringSplitOptions.RemoveEmptyEntries) is var parts ? string.Join('|', parts) : "";

    internal static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };

    internal static string Chat(params JsonNode[] messages) => new JsonObject { ["messages"] = new JsonArray(messages) }.ToJsonString();
}
