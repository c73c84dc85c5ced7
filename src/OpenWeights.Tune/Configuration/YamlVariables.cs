using System.Text.RegularExpressions;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration;

/// <summary>
/// Lets ${NAME} stand without quotes anywhere in YAML, where a brace would begin settings: within `{ path: ${HOME}/m }` too. While the file
/// is read, other characters stand in the braces' place, one for one, so that lines and columns stay.
/// </summary>
internal static partial class YamlVariables
{
    // Unicode's private characters, which are no one's text.
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
