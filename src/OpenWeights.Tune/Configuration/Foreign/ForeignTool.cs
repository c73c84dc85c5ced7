using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>A program whose configs are recognized and converted.</summary>
/// <param name="Name">Name of the program.</param>
/// <param name="Marks">Lists of keys; a config of this program has at least one key of each list.</param>
/// <param name="Keys">Names with another meaning than elsewhere, or nested in sections, and their counterparts; null for none.</param>
/// <param name="None">Names without a counterpart, with the reason.</param>
/// <param name="Defaults">Defaults of the program that differ from ours.</param>
/// <param name="AdapterDefaults">Defaults that apply to runs with an adapter.</param>
internal sealed record ForeignTool(
    string Name,
    IReadOnlyList<IReadOnlyList<string>> Marks,
    IReadOnlyDictionary<string, string?> Keys,
    IReadOnlyDictionary<string, string?> None,
    IReadOnlyDictionary<string, string?> Defaults,
    IReadOnlyDictionary<string, string?> AdapterDefaults)
{
    private static readonly Lazy<IReadOnlyList<ForeignTool>> s_all = new(static () =>
    [
        .. ((YamlSequenceNode)ForeignTable.Read("tools.yaml")).Children.Select(static tool => new ForeignTool(
            tool.Get("name").Text()!,
            [.. ((YamlSequenceNode)tool.Get("marks")!).Children.Select(static group => group.Texts().ToList())],
            tool.Get("keys").Map(),
            tool.Get("none").Map(),
            tool.Get("defaults").Map(),
            tool.Get("adapter").Map())),
    ]);

    /// <summary>The known programs.</summary>
    internal static IReadOnlyList<ForeignTool> All => s_all.Value;

    /// <summary>The program a config was written for; null for a config of this program or an unknown one.</summary>
    internal static ForeignTool? Of(YamlMappingNode root)
    {
        var isOurs = root.Get("training") is YamlMappingNode || root.Get("data") is YamlMappingNode || root.Get("adapter") is YamlMappingNode || root.Get("model")?.Get("path") is not null;
        return isOurs ? null : All.FirstOrDefault(tool => tool.Marks.All(group => group.Any(key => Has(root, key))));
    }

    private static bool Has(YamlMappingNode root, string key) => key.StartsWith("*.", StringComparison.Ordinal)
        ? root.Children.Values.Any(section => section.Get(key[2..]) is not null)
        : root.Get(key) is not null;
}
