using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>--json: JSON where it was asked for, nothing else on stdout, and as docs/json.schema.json says.</summary>
public sealed class JsonOutputTests
{
    private static readonly JsonObject s_schema = JsonNode.Parse(File.ReadAllText(Path.Combine(SharedFiles.Root, "docs", "json.schema.json")))!.AsObject();

    [Test]
    public void Each_command_prints_what_the_schema_says_and_nothing_else()
    {
        using var work = new Workspace();
        File.WriteAllText(work.At("input.jsonl"), "{\"input_ids\": [1, 50, 7, 200, 31]}\n");
        Check("validate", work, 0, "validate", "train.yaml", "--json");
        Check("validate", work, 1, "validate", "train.yaml", "training.lr=1", "--json");
        Check("validate", work, 2, "validate", "train.yaml", "data.train=none.jsonl", "--json");
        Check("plan", work, 0, "train", "train.yaml", "--dry-run", "--json");
        Check("estimate", work, 0, "estimate", "train.yaml", "--json");
        Check("data_preview", work, 0, "data", "preview", "train.yaml", "--json");
        var lines = Owt.Run(work.Root, 0, "train", "train.yaml", "--json").Json;
        Assert.That(lines, Has.Count.EqualTo(13));
        Assert.That(lines.SkipLast(1).SelectMany(static l => Problems(l, Definition("train_step"), "")), Is.Empty);
        Assert.That(Problems(lines[^1], Definition("train_result"), ""), Is.Empty);
        Assert.That(lines[^1].ContainsKey("exact_match"), Is.False, "what was not asked is not there");
        Check("evaluate", work, 0, "evaluate", "--model", "run", "--data", "rows.jsonl", "--json");
        Check("score", work, 0, "score", "--model", "run", "--input", "input.jsonl", "--json");
        Check("inspect", work, 0, "inspect", "run", "--json");
        Check("inspect", work, 0, "inspect", "model", "--json");
        Check("export", work, 0, "export", "--format", "merged", "--model", "run", "--output", "merged", "--json");
        Check("export", work, 0, "export", "--format", "peft", "--model", "run", "--data", "rows.jsonl", "--output", "peft", "--json");
        Check("init", work, 0, "init", "--hidden-size", "16", "--layers", "1", "--vocab-size", "32", "--output", "tiny", "--json");
        Check("recipes", work, 0, "recipes", "list", "--json");
        Check("doctor", work, 0, "doctor", "--json");
        Check("convert", work, 0, "convert", Path.Combine(SharedFiles.Root, "tests", "fixtures", "foreign", "trl.yaml"), "--json");
    }

    [Test]
    public void Every_command_that_has_the_option_has_a_schema_and_a_place_in_the_docs()
    {
        var docs = File.ReadAllText(Path.Combine(SharedFiles.Root, "docs", "json.md"));
        foreach (var name in s_schema["$defs"]!.AsObject().Select(static d => d.Key))
        {
            Assert.That(docs, Does.Contain($"`{name}`"), name);
        }

        foreach (var command in CommandLine.Root().Subcommands.Where(static c => c.Options.Any(static o => o.Name == "--json")))
        {
            Assert.That(docs, Does.Contain($"owt {command.Name}"), command.Name);
        }
    }

    /// <summary>What the schema says is wrong with a document.</summary>
    internal static IEnumerable<string> ProblemsOf(JsonObject document, string definition) => Problems(document, Definition(definition), "");

    private static void Check(string definition, Workspace work, int code, params string[] arguments)
    {
        var documents = Owt.Run(work.Root, code, arguments).Json;
        Assert.That(documents, Is.Not.Empty, string.Join(' ', arguments));
        Assert.That(documents.SelectMany(d => Problems(d, Definition(definition), "")), Is.Empty, string.Join(' ', arguments));
    }

    private static JsonObject Definition(string name) => s_schema["$defs"]![name]!.AsObject();

    // The part of JSON Schema that the file uses: type, required, properties, items, additionalProperties as a schema, $ref, enum.
    private static IEnumerable<string> Problems(JsonNode? value, JsonObject schema, string at)
    {
        if (schema["$ref"]?.ToString() is { } reference)
        {
            schema = Definition(reference[(reference.LastIndexOf('/') + 1)..]);
        }

        var kind = value?.GetValueKind() switch
        {
            null or System.Text.Json.JsonValueKind.Null => "null",
            System.Text.Json.JsonValueKind.Object => "object",
            System.Text.Json.JsonValueKind.Array => "array",
            System.Text.Json.JsonValueKind.String => "string",
            System.Text.Json.JsonValueKind.Number => value.GetValue<double>() == Math.Floor(value.GetValue<double>()) ? "integer" : "number",
            _ => "boolean",
        };
        var types = schema["type"] is JsonArray several ? several.Select(static t => t!.ToString()).ToList() : schema["type"] is { } one ? [one.ToString()] : [kind];
        if (!types.Contains(kind) && !(kind == "integer" && types.Contains("number")))
        {
            yield return $"{at}: {kind} where {string.Join(" or ", types)} is wanted";
        }

        if (schema["enum"] is JsonArray possible && !possible.Any(p => JsonNode.DeepEquals(p, value)))
        {
            yield return $"{at}: {value} is not one of {possible.ToJsonString()}";
        }

        foreach (var missing in value is JsonObject map ? (schema["required"] as JsonArray ?? []).Where(r => !map.ContainsKey(r!.ToString())) : [])
        {
            yield return $"{at}: {missing} is missing";
        }

        var inner = value switch
        {
            JsonObject members => members.Select(m => (m.Value, Schema: schema["properties"]?[m.Key] ?? schema["additionalProperties"], m.Key)),
            JsonArray items => items.Select((v, i) => (Value: v, Schema: schema["items"], Key: $"{i}")),
            _ => [],
        };
        foreach (var problem in inner.Where(static i => i.Schema is JsonObject).SelectMany(i => Problems(i.Value, i.Schema!.AsObject(), $"{at}.{i.Key}")))
        {
            yield return problem;
        }
    }
}
