using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>objective.samples: a file that stands for data.train.</summary>
internal static class RecordedSamples
{
    /// <summary>Names the file in data.train, where that is left out.</summary>
    /// <param name="root">The config.</param>
    internal static void AddAsData(YamlMappingNode root)
    {
        if (Child(root, "objective") is not YamlMappingNode objective || Child(objective, "samples") is not YamlScalarNode { Value.Length: > 0 } samples || IsNull(samples))
        {
            return;
        }

        if (Child(root, "data") is null)
        {
            root.Children[new YamlScalarNode("data")] = new YamlMappingNode();
        }

        if (Child(root, "data") is YamlMappingNode data && Child(data, "train") is null)
        {
            data.Children[new YamlScalarNode("train")] = new YamlMappingNode { { "path", samples }, { "format", "tokenized" } };
        }
    }

    private static bool IsNull(YamlScalarNode node) => node.Value is "null" or "~" && node.Style is YamlDotNet.Core.ScalarStyle.Plain or YamlDotNet.Core.ScalarStyle.Any;

    private static YamlNode? Child(YamlMappingNode node, string key) =>
        node.Children.TryGetValue(new YamlScalarNode(key), out var child) && child is not YamlScalarNode { Style: YamlDotNet.Core.ScalarStyle.Plain, Value: null or "" } ? child : null;
}
