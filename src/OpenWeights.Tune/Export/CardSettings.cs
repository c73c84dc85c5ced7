using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Export;

/// <summary>
/// YAML metadata of a model card, between the first two lines of dashes
/// (<see href="https://github.com/huggingface/hub-docs/blob/main/modelcard.md?plain=1"/>). A card that cannot be read has no metadata.
/// </summary>
internal sealed class CardSettings
{
    private const string Fence = "---";
    private readonly YamlMappingNode _settings;

    private CardSettings(YamlMappingNode settings) => _settings = settings;

    /// <summary>Reads the card of a model folder.</summary>
    internal static CardSettings Read(string folder)
    {
        var path = Path.Combine(folder, ModelCard.Name);
        return new CardSettings(File.Exists(path) ? Parse(File.ReadLines(path)) : []);
    }

    /// <summary>A text, or the first of a list of texts; null if absent.</summary>
    internal string? Text(string key) => List(key) is [var first, ..] ? first : null;

    /// <summary>A list of texts, or one text as a list of one.</summary>
    internal IReadOnlyList<string> List(string key) => (_settings.Children.TryGetValue(new YamlScalarNode(key), out var value) ? value : null) switch
    {
        YamlScalarNode { Value: { Length: > 0 } text } => [text],
        YamlSequenceNode list => [.. list.OfType<YamlScalarNode>().Select(static n => n.Value).OfType<string>().Where(static t => t.Length > 0)],
        _ => [],
    };

    private static YamlMappingNode Parse(IEnumerable<string> lines)
    {
        using var line = lines.GetEnumerator();
        if (!line.MoveNext() || line.Current.TrimEnd() != Fence)
        {
            return [];
        }

        var text = new List<string>();
        while (line.MoveNext() && line.Current.TrimEnd() != Fence)
        {
            // Some published cards contain tabs, which YAML forbids.
            text.Add(line.Current.Replace("\t", "  ", StringComparison.Ordinal));
        }

        try
        {
            var yaml = new YamlStream();
            yaml.Load(new StringReader(string.Join('\n', text)));
            return yaml.Documents is [{ RootNode: YamlMappingNode settings }, ..] ? settings : [];
        }
        catch (Exception error) when (error is YamlException or InvalidOperationException)
        {
            return [];
        }
    }
}
