using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Configuration;

/// <summary>Every setting of train.yaml as a page of Markdown, made from the schema that editors check files with.</summary>
internal static class SettingsReference
{
    /// <summary>Text of the page.</summary>
    public static string Write()
    {
        var page = new StringBuilder(
            """
            # All settings

            Every setting of the YAML file, made from the [schema](../configs/train.schema.json) by `owt validate --reference`; a test compares this
            page with the program. [configuration.md](configuration.md) has the rules behind them, and [choosing.md](choosing.md) tells which to change
            first. Where there is no default, the description says what holds without the setting; the run's `config.yaml` has the values that were used.


            """.ReplaceLineEndings("\n"));
        var root = JsonNode.Parse(ConfigSchema.Write())!.AsObject();
        var sections = new List<(string Name, JsonObject Schema)>();
        Table(page, root, "", sections, depth: 0);
        foreach (var (name, section) in sections)
        {
            _ = page.Append("\n## ").Append(name).Append("\n\n").Append(section["description"]).Append("\n\n");
            Table(page, section, name + ".", [], depth: 1);
        }

        return page.ToString();
    }

    private static void Table(StringBuilder page, JsonObject section, string prefix, List<(string, JsonObject)> sections, int depth)
    {
        _ = page.Append("| setting | values | default | what it does |\n| --- | --- | --- | --- |\n");
        Rows(page, section, prefix, sections, depth);
    }

    private static void Rows(StringBuilder page, JsonObject section, string prefix, List<(string, JsonObject)> sections, int depth)
    {
        var required = section["required"]?.AsArray().Select(static r => r!.ToString()).ToHashSet() ?? [];
        foreach (var (key, node) in section["properties"]!.AsObject())
        {
            var value = node!.AsObject();
            var parts = Parts(value);
            if (parts is not null && depth == 0)
            {
                sections.Add((key, value));
                _ = page.Append(CultureInfo.InvariantCulture, $"| [`{key}`](#{key}) | section | {(required.Contains(key) ? "required" : "")} | {Cell(value["description"])} |\n");
                continue;
            }

            var fallback = required.Contains(key) ? "required" : value["default"] is { } given ? $"`{Literal(given)}`" : "";
            _ = page.Append(CultureInfo.InvariantCulture, $"| `{prefix}{key}` | {Values(value)} | {fallback} | {Cell(value["description"])} |\n");
            if (parts is not null)
            {
                Rows(page, parts, $"{prefix}{key}.", sections, depth + 1);
            }
        }
    }

    // The section that a value is, or that the elements of a list are; null for a scalar.
    private static JsonObject? Parts(JsonObject value) =>
        value["properties"] is not null ? value
        : value["items"] is JsonObject items ? Parts(items)
        : value["anyOf"]?.AsArray().Select(static o => Parts(o!.AsObject())).FirstOrDefault(static o => o is not null);

    private static string Values(JsonObject value)
    {
        if (value["anyOf"] is JsonArray several)
        {
            return AnyOf([.. several.Select(static o => o!.AsObject())]);
        }

        if (value["enum"] is JsonArray names)
        {
            return Words(names);
        }

        return value["type"]?.ToString() switch
        {
            "boolean" => "`true`, `false`",
            "string" => "text",
            "integer" => "whole number" + Bounds(value),
            "number" => "number" + Bounds(value),
            "array" when value["items"] is JsonObject items => Parts(items) is not null ? "list of sections" : $"list of: {Values(items)}",
            "object" when value["additionalProperties"] is JsonObject each => $"names with: {Values(each)}",
            "object" => "section",
            _ => "any value",
        };
    }

    // The words of all enumerations together, then other kinds; a list of what may also stand alone is named as such.
    private static string AnyOf(IReadOnlyList<JsonObject> several)
    {
        var kinds = several.Where(static o => o["enum"] is null && o["type"]?.ToString() is not ("boolean" or "array")).Select(Values).Distinct().ToList();
        var words = several.SelectMany(static o => o["type"]?.ToString() == "boolean" ? new JsonArray(true, false) : o["enum"] as JsonArray ?? []).ToList();
        if (words.Count > 0)
        {
            kinds.Insert(0, Words(words));
        }

        var single = string.Join(", or ", kinds);
        var lists = several.Where(static o => o["type"]?.ToString() == "array").Select(Values).Distinct();
        return string.Join(", or ", lists.Select(l => l == $"list of: {single}" ? "a list of those" : l).Prepend(single).Where(static k => k.Length > 0));
    }

    private static string Words(IEnumerable<JsonNode?> names) =>
        string.Join(", ", names.Select(static n => n!.ToJsonString().Trim('"')).Distinct().Select(static n => $"`{n}`"));

    private static string Bounds(JsonObject value) => (value["minimum"], value["maximum"]) switch
    {
        ({ } from, { } to) => $", {Literal(from)} to {Literal(to)}",
        ({ } from, null) => $", at least {Literal(from)}",
        (null, { } to) => $", at most {Literal(to)}",
        _ => "",
    };

    private static string Literal(JsonNode value) => value.ToJsonString().Trim('"');

    // A bar would end the cell, and a name in angle brackets would be taken for HTML.
    private static string Cell(JsonNode? text) => (text?.ToString() ?? "").Replace("|", "\\|", StringComparison.Ordinal).Replace("<", "&lt;", StringComparison.Ordinal).ReplaceLineEndings(" ");
}
