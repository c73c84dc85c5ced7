using System.Text.RegularExpressions;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>
/// Allows ${NAME} without quotes anywhere in YAML, also within `{ path: ${HOME}/m }`, where a brace would otherwise start a mapping. While
/// the file is parsed, the braces are replaced by other characters one for one, so that lines and columns do not change.
/// </summary>
internal static partial class YamlVariables
{
    // Characters of Unicode's private use area, which do not occur in text.
    private const char Open = '\uf7b0';
    private const char Close = '\uf7b1';

    internal static string Hide(string text) => Variable().Replace(text, static found => $"${Open}{found.Groups[1].Value}{Close}");

    internal static void Show(YamlNode? root)
    {
        foreach (var scalar in (root?.AllNodes ?? []).OfType<YamlScalarNode>())
        {
            if (scalar.Value is { } text && text.Contains(Open, StringComparison.Ordinal))
            {
                scalar.Value = text.Replace(Open, '{').Replace(Close, '}');
            }
        }
    }

    [GeneratedRegex(@"\$\{([A-Za-z_][A-Za-z0-9_.]*)\}")]
    private static partial Regex Variable();
}
