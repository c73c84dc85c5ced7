using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Captures what a command prints, for commands with JSON output.</summary>
internal static class PrintedText
{
    private const int NameWidth = 12;

    /// <summary>Runs an action whose lines are captured.</summary>
    internal static IReadOnlyList<string> Of(Action work)
    {
        var real = Console.Out;
        using var text = new StringWriter();
        Console.SetOut(text);
        try
        {
            work();
        }
        finally
        {
            Console.SetOut(real);
        }

        return text.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    /// <summary>
    /// Converts lines of names and values in columns to an object: a line without a name continues the previous one, and a repeated name
    /// gets a list.
    /// </summary>
    internal static JsonObject Table(IEnumerable<string> lines)
    {
        var found = new List<(string Name, string Value)>();
        foreach (var line in lines)
        {
            var (name, value) = (line[..Math.Min(NameWidth, line.Length)].Trim(), line.Length > NameWidth ? line[NameWidth..].Trim() : "");
            found.Add((name.Length == 0 && found.Count > 0 ? found[^1].Name : name, value));
        }

        var table = new JsonObject();
        foreach (var group in found.GroupBy(static f => f.Name))
        {
            table[group.Key] = group.Count() == 1 ? group.First().Value : new JsonArray([.. group.Select(static g => (JsonNode)g.Value)]);
        }

        return table;
    }
}
