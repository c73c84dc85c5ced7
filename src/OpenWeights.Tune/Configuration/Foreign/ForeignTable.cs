using System.Text;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>Reads the tables of other programs' names, which are embedded resources of this assembly.</summary>
internal static class ForeignTable
{
    /// <summary>The root of a table.</summary>
    internal static YamlNode Read(string file)
    {
        var type = typeof(ForeignTable);
        using var stream = type.Assembly.GetManifestResourceStream($"{type.Namespace}.{file}") ?? throw new InvalidOperationException($"{file} is not in the assembly");
        using var reader = new StreamReader(stream, Encoding.UTF8);
        var yaml = new YamlStream();
        yaml.Load(reader);
        return yaml.Documents[0].RootNode;
    }

    internal static YamlNode? Get(this YamlNode node, string key) => node is YamlMappingNode map && map.Children.TryGetValue(new YamlScalarNode(key), out var value) ? value : null;

    internal static string? Text(this YamlNode? node) => node is YamlScalarNode { Value: { } value } scalar && !(scalar.Style is YamlDotNet.Core.ScalarStyle.Plain && value is "null" or "~" or "") ? value : null;

    internal static IEnumerable<string> Texts(this YamlNode? node) => node is YamlSequenceNode list ? list.Children.Select(static c => c.Text() ?? "") : [];

    internal static IReadOnlyDictionary<string, string?> Map(this YamlNode? node) =>
        node is YamlMappingNode map ? map.Children.ToDictionary(static p => ((YamlScalarNode)p.Key).Value!, static p => p.Value.Text()) : new Dictionary<string, string?>();
}
