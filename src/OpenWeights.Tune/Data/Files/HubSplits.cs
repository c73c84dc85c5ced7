using System.Text;
using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Data.Files;

/// <summary>
/// Which files of a data set on the Hub are a split: those that its card names (<c>configs</c>), else those whose names or folders say so, as the Python
/// package datasets finds them (<see href="https://huggingface.co/docs/hub/datasets-file-names-and-splits"/>).
/// </summary>
internal static partial class HubSplits
{
    /// <summary>The split where none is asked for.</summary>
    internal const string Usual = "train";

    private static readonly string[] s_endings = [".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt"];
    private static readonly Dictionary<string, string[]> s_words = new()
    {
        ["train"] = ["train", "training"],
        ["validation"] = ["validation", "valid", "dev", "val"],
        ["test"] = ["test", "testing", "eval", "evaluation"],
    };

    /// <summary>Chooses the files.</summary>
    /// <param name="source">The data set, with config and split.</param>
    /// <param name="card">Its README.md; empty for none.</param>
    /// <param name="files">All files, with slashes.</param>
    /// <returns>The files in order; none if there is no data file at all.</returns>
    /// <exception cref="InvalidDataException">There is no such config or split; the message names those that there are.</exception>
    internal static IReadOnlyList<string> Choose(DataSource source, string card, IReadOnlyList<string> files)
    {
        List<string> data = [.. files.Where(IsData).Order(StringComparer.Ordinal)];
        var split = source.Split ?? Usual;
        if (Configs(card) is { Count: > 0 } configs)
        {
            var config = Config(source, configs);
            var splits = config.Splits.ToDictionary(static s => s.Split, s => data.Where(f => s.Patterns.Any(p => Matches(p, f))).ToList());
            return splits.TryGetValue(split, out var named) ? named : throw NoSplit(source, split, splits.Keys);
        }

        if (data.Count == 0)
        {
            return [];
        }

        data = OfConfig(source, data);
        var bySplit = data.Select(f => (File: f, Split: SplitOf(f))).ToList();
        var found = bySplit.Where(f => f.Split == split).Select(static f => f.File).ToList();
        return found.Count > 0 ? found

            // Files that name no split are all training data.
            : split == Usual && bySplit.TrueForAll(static f => f.Split is null) ? data
            : throw NoSplit(source, split, bySplit.Select(static f => f.Split ?? Usual).Distinct());
    }

    private static InvalidDataException NoSplit(DataSource source, string split, IEnumerable<string> others) =>
        new($"{source.Path}{(source.Config is { } config ? $" ({config})" : "")} has no split '{split}'; it has {string.Join(", ", others.Order(StringComparer.Ordinal))}. Set split to one of them.");

    private static HubConfig Config(DataSource source, List<HubConfig> configs)
    {
        if (source.Config is { } wanted)
        {
            return configs.Find(c => c.Name == wanted)
                ?? throw new InvalidDataException($"{source.Path} has no config '{wanted}'; it has {string.Join(", ", configs.Select(static c => c.Name))}.{Spelling.DidYouMean(wanted, configs.Select(static c => c.Name))}");
        }

        return configs.Count == 1 ? configs[0]
            : configs.Find(static c => c.IsDefault) ?? configs.Find(static c => c.Name == "default")
            ?? throw new InvalidDataException($"{source.Path} has several configs: {string.Join(", ", configs.Select(static c => c.Name))}. Set config to one of them.");
    }

    // Without a card, a config is a folder.
    private static List<string> OfConfig(DataSource source, List<string> data)
    {
        if (source.Config is not { } config)
        {
            var roots = data.Select(static f => f.Split('/')).Where(static p => p.Length > 2).Select(static p => p[0]).Distinct().ToList();
            return roots.Count > 1 && data.TrueForAll(static f => f.Count(static c => c == '/') > 1) && !roots.Contains("default") && !roots.TrueForAll(static r => SplitOf(r + "/x") is not null)
                ? throw new InvalidDataException($"{source.Path} has several configs: {string.Join(", ", roots)}. Set config to one of them.")
                : roots.Contains("default") ? [.. data.Where(static f => f.StartsWith("default/", StringComparison.Ordinal))] : data;
        }

        var own = data.Where(f => f.StartsWith(config + "/", StringComparison.Ordinal) || f.Contains($"/{config}/", StringComparison.Ordinal)).ToList();
        return own.Count > 0 ? own : throw new InvalidDataException($"{source.Path} has no config '{config}': neither its card nor a folder names it.");
    }

    private static bool IsData(string file)
    {
        var name = file[(file.LastIndexOf('/') + 1)..];
        return !file.Split('/').Any(static p => p.StartsWith('.') || p.StartsWith('_')) && name is not ("dataset_infos.json" or "dataset_info.json" or "state.json" or "LICENSE.txt" or "requirements.txt")
            && s_endings.Contains(Path.GetExtension(Decompression.NameWithin(name)), StringComparer.OrdinalIgnoreCase);
    }

    // Of several words, that nearest the end: train/test-notes.jsonl is of test.
    private static string? SplitOf(string file)
    {
        foreach (var part in file.Split('/').Reverse())
        {
            var words = Word().Matches(part.ToLowerInvariant()).Select(static m => m.Value).ToList();
            if (s_words.FirstOrDefault(s => s.Value.Any(words.Contains)).Key is { } split)
            {
                return split;
            }
        }

        return null;
    }

    private static List<HubConfig> Configs(string card)
    {
        var lines = card.ReplaceLineEndings("\n").Split('\n');
        var end = lines.Length > 1 && lines[0].TrimEnd() == "---" ? Array.FindIndex(lines, 1, static l => l.TrimEnd() == "---") : -1;
        if (end < 0)
        {
            return [];
        }

        try
        {
            var yaml = new YamlStream();
            yaml.Load(new StringReader(string.Join('\n', lines[1..end])));
            return yaml.Documents is [{ RootNode: YamlMappingNode root }, ..] && Child(root, "configs") is YamlSequenceNode configs
                ? [.. configs.OfType<YamlMappingNode>().Where(static c => Child(c, "data_files") is not null).Select(Config)]
                : [];
        }
        catch (YamlException)
        {
            return [];
        }
    }

    private static HubConfig Config(YamlMappingNode node)
    {
        var folder = Child(node, "data_dir") is YamlScalarNode { Value: { Length: > 0 } directory } ? directory.Trim('/') + "/" : "";
        string[] Patterns(YamlNode? value) => [.. Texts(value).Select(p => folder + p)];
        var files = Child(node, "data_files")!;
        (string, string[])[] splits = files is YamlSequenceNode list && list.Children.All(static c => c is YamlMappingNode)
            ? [.. list.OfType<YamlMappingNode>().Select(s => (Child(s, "split")?.ToString() ?? Usual, Patterns(Child(s, "path"))))]
            : [(Usual, Patterns(files))];
        return new HubConfig(Child(node, "config_name")?.ToString() ?? "default", Child(node, "default")?.ToString() == "true", splits);
    }

    private static IEnumerable<string> Texts(YamlNode? node) => node switch
    {
        YamlScalarNode { Value: { Length: > 0 } text } => [text],
        YamlSequenceNode list => list.OfType<YamlScalarNode>().Select(static s => s.Value).OfType<string>(),
        _ => [],
    };

    private static YamlNode? Child(YamlMappingNode node, string key) => node.Children.TryGetValue(new YamlScalarNode(key), out var value) ? value : null;

    private static bool Matches(string pattern, string file)
    {
        pattern = pattern.StartsWith("./", StringComparison.Ordinal) ? pattern[2..] : pattern;
        var text = new StringBuilder(@"\A");
        for (var i = 0; i < pattern.Length; i++)
        {
            if (pattern.AsSpan(i).StartsWith("**"))
            {
                _ = text.Append(pattern.AsSpan(i).StartsWith("**/") ? "(?:.*/)?" : ".*");
                i += pattern.AsSpan(i).StartsWith("**/") ? 2 : 1;
            }
            else
            {
                _ = text.Append(pattern[i] switch { '*' => "[^/]*", '?' => "[^/]", '[' or ']' => pattern[i].ToString(), var c => Regex.Escape(c.ToString()) });
            }
        }

        return Regex.IsMatch(file, text.Append(@"\z").ToString(), RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
    }

    [GeneratedRegex("[a-z]+")]
    private static partial Regex Word();

    private sealed record HubConfig(string Name, bool IsDefault, (string Split, string[] Patterns)[] Splits);
}
