using System.Globalization;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>The nodes of a YAML file with command-line overrides applied, and the origin of each.</summary>
internal sealed class YamlSource
{
    private readonly Dictionary<YamlNode, string> _overrides = new(ReferenceEqualityComparer.Instance);

    private YamlSource(string path, YamlMappingNode root)
    {
        Path = path;
        Root = root;
    }

    /// <summary>Path of the file.</summary>
    internal string Path { get; }

    internal YamlMappingNode Root { get; }

    /// <summary>Reads a file.</summary>
    /// <exception cref="ConfigException">The file is not YAML, or not a mapping.</exception>
    internal static YamlSource Read(string path, string text)
    {
        var root = Parse(path, text);
        return root switch
        {
            null => new YamlSource(path, []),
            YamlMappingNode mapping => new YamlSource(path, mapping),
            _ => throw new ConfigException([new ConfigProblem($"{path}:1:1", "", "settings with their names are expected here, such as `output_dir: runs/mine`.")]),
        };
    }

    /// <summary>Applies a command-line setting such as training.max_steps=10.</summary>
    /// <returns>The problem, or null.</returns>
    internal ConfigProblem? Override(string assignment)
    {
        const string place = "command line";
        var equals = assignment.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0)
        {
            return new ConfigProblem(place, "", $"'{assignment}' is not of the form key=value, such as training.max_steps=10.");
        }

        var (key, text) = (assignment[..equals].Trim(), assignment[(equals + 1)..]);
        YamlNode value;
        try
        {
            value = Parse(place, text) ?? new YamlScalarNode("") { Style = ScalarStyle.Plain };
        }
        catch (ConfigException e)
        {
            return new ConfigProblem(place, key, e.Problems[0].Message);
        }

        Mark(value, place);
        return Put(key, value);
    }

    /// <summary>Position of a node.</summary>
    internal string PlaceOf(YamlNode node) => _overrides.TryGetValue(node, out var place)
        ? place
        : string.Create(CultureInfo.InvariantCulture, $"{Path}:{node.Start.Line}:{node.Start.Column}");

    private static YamlNode? Parse(string path, string text)
    {
        try
        {
            var hidden = YamlVariables.Hide(text);
            if (YamlLimits.Problem(hidden) is { } problem)
            {
                throw new ConfigException([new ConfigProblem(string.Create(CultureInfo.InvariantCulture, $"{path}:{problem.Line}:{problem.Column}"), "", problem.Message)]);
            }

            var stream = new YamlStream();
            stream.Load(new StringReader(hidden));
            if (stream.Documents.Count > 1)
            {
                var second = stream.Documents[1].RootNode.Start;
                throw new ConfigException([new ConfigProblem(string.Create(CultureInfo.InvariantCulture, $"{path}:{second.Line}:{second.Column}"), "", "a second document begins here, behind a line of ---; a run takes one, so write it into a file of its own.")]);
            }

            var root = stream.Documents.Count == 0 ? null : stream.Documents[0].RootNode;
            YamlVariables.Show(root);
            return root;
        }
        catch (YamlException e)
        {
            var message = (e.InnerException?.Message ?? e.Message).TrimEnd('.');
            throw Invalid(path, message.StartsWith("Duplicate", StringComparison.Ordinal) ? "" : text, (e.Start.Line, e.Start.Column), $"this is not valid YAML: {message}.");
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException)
        {
            // YamlDotNet throws these without a position for some unclosed brackets, and for an alias where none can stand.
            throw Invalid(path, text, (1, 1), "this is not valid YAML; check for an unclosed bracket or quote.");
        }
    }

    private static ConfigException Invalid(string path, string text, (long Line, long Column) place, string message)
    {
        (place, message) = YamlSlips.Find(text) ?? (place, message);
        return new ConfigException([new ConfigProblem(string.Create(CultureInfo.InvariantCulture, $"{path}:{place.Line}:{place.Column}"), "", message)]);
    }

    private ConfigProblem? Put(string key, YamlNode value)
    {
        YamlNode at = Root;
        var parts = key.Split('.');
        for (var i = 0; i < parts.Length; i++)
        {
            var last = i == parts.Length - 1;
            switch (at)
            {
                case YamlMappingNode mapping:
                    var name = new YamlScalarNode(parts[i]);
                    if (last)
                    {
                        _ = mapping.Children.Remove(name);
                        Mark(name, "command line");
                        mapping.Add(name, value);
                    }
                    else if (int.TryParse(parts[i + 1], NumberStyles.None, CultureInfo.InvariantCulture, out _) && mapping.Children.TryGetValue(name, out var one) && one is YamlMappingNode or YamlScalarNode)
                    {
                        // A single value stands for a list of one.
                        mapping.Children[name] = at = new YamlSequenceNode(one);
                    }
                    else if (!mapping.Children.TryGetValue(name, out at!) || at is not (YamlMappingNode or YamlSequenceNode))
                    {
                        _ = mapping.Children.Remove(name);
                        mapping.Add(name, at = new YamlMappingNode());
                        Mark(name, "command line");
                        Mark(at, "command line");
                    }

                    break;
                case YamlSequenceNode list when int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out var index) && index < list.Children.Count:
                    if (!last && list.Children[index] is YamlScalarNode path)
                    {
                        // A path alone stands for a data set.
                        list.Children[index] = new YamlMappingNode("path", path);
                    }

                    at = last ? list.Children[index] = value : list.Children[index];
                    break;
                default:
                    return new ConfigProblem("command line", key, $"'{parts[i]}' is not an entry of a list here; entries are numbered from 0.");
            }
        }

        return null;
    }

    private void Mark(YamlNode node, string place)
    {
        foreach (var inner in node.AllNodes)
        {
            _overrides[inner] = place;
        }
    }
}
