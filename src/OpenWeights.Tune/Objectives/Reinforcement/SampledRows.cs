using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>Rows of sampled answers.</summary>
internal static class SampledRows
{
    /// <summary>A row of a prompt and its answer.</summary>
    /// <param name="ids">Tokens of both.</param>
    /// <param name="length">Number of tokens of the answer.</param>
    /// <param name="isTrained">Whether the answer is trained.</param>
    /// <param name="source">Origin of the prompt.</param>
    /// <param name="sample">What is known of the answer.</param>
    internal static TokenRow Row(int[] ids, int length, bool isTrained, string source, AnswerSample sample) => new(
        ids, [.. ids.Select((id, i) => isTrained && i >= ids.Length - length ? id : TokenRow.Ignored)], source)
    {
        Role = RowRole.Sampled,
        Sample = sample,
    };

    /// <summary>The answer of a recorded row.</summary>
    /// <param name="row">The row, with its fields.</param>
    /// <param name="endTokens">Tokens that end an answer.</param>
    /// <param name="masksTruncated">Whether an answer without one is not trained.</param>
    /// <exception cref="InvalidDataException">A number is missing.</exception>
    internal static TokenRow Recorded(TokenRow row, IReadOnlyList<int> endTokens, bool masksTruncated)
    {
        var fields = JsonNode.Parse(row.Fields!)!.AsObject();
        var length = row.Labels.Count(static l => l != TokenRow.Ignored);
        var truncated = !endTokens.Contains(row.Ids[^1]);
        float Number(JsonNode? node, string what) => node is JsonValue value && value.TryGetValue<double>(out var number) && double.IsFinite(number) ? (float)number
            : throw new InvalidDataException($"{row.Source}: \"{what}\" has {node?.ToJsonString() ?? "null"}, which is not a number.");
        var rewards = fields[RowFieldNames.Rewards]!.AsObject().ToDictionary(static r => r.Key, r => r.Value is null ? (double?)null : Value(r.Value, row.Source, r.Key));
        return Row(row.Ids, length, !(truncated && masksTruncated), row.Source, new AnswerSample
        {
            Group = Group(row),
            Rewards = rewards,
            IsTruncated = truncated,
            Length = length,

            // The first token of an answer without a prompt is not predicted.
            LogProbs = fields[RowFieldNames.LogProbs] is JsonArray given ? [.. given.Select(v => Number(v, RowFieldNames.LogProbs)).Skip(row.Ids.Length == length ? 1 : 0)] : null,
        });
    }

    /// <summary>A line of samples.jsonl, which objective.samples reads.</summary>
    /// <param name="row">A row of a sampled answer.</param>
    internal static JsonObject Line(TokenRow row)
    {
        var sample = row.Sample!;
        static JsonArray Ids(IEnumerable<int> ids) => new([.. ids.Select(static i => (JsonNode)i)]);
        var line = new JsonObject
        {
            ["group"] = sample.Group,
            ["prompt_ids"] = Ids(row.Ids[..^sample.Length]),
            ["completion_ids"] = Ids(row.Ids[^sample.Length..]),
            ["rewards"] = new JsonObject([.. sample.Rewards.Select(static r => KeyValuePair.Create(r.Key, (JsonNode?)r.Value))]),
            ["advantage"] = sample.Advantage,
            ["prompt"] = sample.PromptText,
            ["completion"] = sample.AnswerText,
            ["expected"] = sample.Expected,
        };
        if (sample.LogProbs is { } logProbs)
        {
            line["logprobs"] = new JsonArray([.. logProbs.Select(static v => (JsonNode)v)]);
        }

        return line;
    }

    /// <summary>The group of a recorded row.</summary>
    internal static string Group(TokenRow row) => JsonNode.Parse(row.Fields!)![RowFieldNames.Group]!.ToString();

    /// <summary>Indexes of the recorded rows of each group, in the order of their first rows.</summary>
    /// <param name="rows">The rows.</param>
    /// <exception cref="InvalidDataException">Groups have different numbers of rows.</exception>
    public static IReadOnlyList<int[]> Groups(IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        var groups = new Dictionary<string, List<int>>();
        var order = new List<List<int>>();
        for (var i = 0; i < rows.Count; i++)
        {
            var name = Group(rows[i]);
            if (!groups.TryGetValue(name, out var group))
            {
                order.Add(groups[name] = group = []);
            }

            group.Add(i);
        }

        return order.Find(g => g.Count != order[0].Count) is { } other
            ? throw new InvalidDataException($"{rows[other[0]].Source}: the group {Group(rows[other[0]])} has {other.Count} rows, and the first group {order[0].Count}; every prompt needs the same number of samples.")
            : [.. order.Select(static g => g.ToArray())];
    }

    private static double Value(JsonNode node, string place, string name) => node is JsonValue value && value.TryGetValue<double>(out var number) && double.IsFinite(number) ? number
        : throw new InvalidDataException($"{place}: the reward \"{name}\" is {node.ToJsonString()}; it must be a number, or null where the answer was not judged.");
}
