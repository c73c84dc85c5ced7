using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>Answers that were sampled together, on which one or several steps train.</summary>
/// <param name="Index">Number of the batch in the run, from 0.</param>
/// <param name="Rows">The answers; those that are not trained have no labels.</param>
/// <param name="Metrics">What is known of them before training.</param>
internal sealed record SampledBatch(long Index, IReadOnlyList<TokenRow> Rows, IReadOnlyDictionary<string, double> Metrics)
{
    /// <summary>The batch as JSON, for a checkpoint between two of its steps. Numbers are written with all digits.</summary>
    internal JsonObject ToJson() => new()
    {
        ["index"] = Index,
        ["metrics"] = new JsonObject([.. Metrics.Where(static m => double.IsFinite(m.Value)).Select(static m => KeyValuePair.Create(m.Key, (JsonNode?)m.Value))]),
        ["rows"] = new JsonArray([.. Rows.Select(Row)]),
    };

    /// <summary>Reads a batch from JSON.</summary>
    internal static SampledBatch FromJson(JsonObject json) => new(
        json["index"]!.GetValue<long>(),
        [.. json["rows"]!.AsArray().Select(static r => Row(r!.AsObject()))],
        json["metrics"]!.AsObject().ToDictionary(static m => m.Key, static m => m.Value!.GetValue<double>()));

    private static JsonObject Row(TokenRow row)
    {
        var sample = row.Sample!;
        static JsonArray? Numbers(IReadOnlyList<float>? values) => values is null ? null : new JsonArray([.. values.Select(static v => (JsonNode)v)]);
        return new JsonObject
        {
            ["ids"] = new JsonArray([.. row.Ids.Select(static i => (JsonNode)i)]),
            ["trained"] = row.Labels.Any(static l => l != TokenRow.Ignored),
            ["source"] = row.Source,
            ["group"] = sample.Group,
            ["length"] = sample.Length,
            ["truncated"] = sample.IsTruncated,
            ["advantage"] = sample.Advantage,
            ["logprobs"] = Numbers(sample.LogProbs),
            ["reference"] = Numbers(sample.ReferenceLogProbs),
            ["sampler"] = Numbers(sample.SamplingLogProbs),
        };
    }

    private static TokenRow Row(JsonObject json)
    {
        int[] ids = [.. json["ids"]!.AsArray().Select(static i => i!.GetValue<int>())];
        var length = json["length"]!.GetValue<int>();
        IReadOnlyList<float>? Numbers(string key) => json[key] is JsonArray values ? [.. values.Select(static v => v!.GetValue<float>())] : null;
        return SampledRows.Row(ids, length, json["trained"]!.GetValue<bool>(), json["source"]!.GetValue<string>(), new AnswerSample
        {
            Group = json["group"]!.GetValue<string>(),
            Rewards = new Dictionary<string, double?>(),
            IsTruncated = json["truncated"]!.GetValue<bool>(),
            Length = length,
            Advantage = json["advantage"]!.GetValue<double>(),
            LogProbs = Numbers("logprobs"),
            ReferenceLogProbs = Numbers("reference"),
            SamplingLogProbs = Numbers("sampler"),
        });
    }
}
