using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>A program whose configs are recognised and converted.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Marks">Keys of which one of each list is in a config of it.</param>
/// <param name="Keys">Names that mean something else than elsewhere, or lie within sections; null for none of ours.</param>
/// <param name="None">Names without a counterpart, and why.</param>
/// <param name="Defaults">What it does where its file says nothing and we would do otherwise.</param>
/// <param name="AdapterDefaults">The same for runs with an adapter.</param>
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

    /// <summary>The programs that are known.</summary>
    internal static IReadOnlyList<ForeignTool> All => s_all.Value;

    /// <summary>The program that a config is of; null where it is ours or nobody's.</summary>
    internal static ForeignTool? Of(YamlMappingNode root)
    {
        var isOurs = root.Get("training") is YamlMappingNode || root.Get("data") is YamlMappingNode || root.Get("adapter") is YamlMappingNode || root.Get("model")?.Get("path") is not null;
        return isOurs ? null : All.FirstOrDefault(tool => tool.Marks.All(group => group.Any(key => Has(root, key))));
    }

    private static bool Has(YamlMappingNode root, string key) => key.StartsWith("*.", StringComparison.Ordinal)
        ? root.Children.Values.Any(section => section.Get(key[2..]) is not null)
        : root.Get(key) is not null;
}
