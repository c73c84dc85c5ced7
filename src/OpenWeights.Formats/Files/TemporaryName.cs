using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text.RegularExpressions;

namespace OpenWeights.Formats.Files;

/// <summary>
/// The names of what is under way: <c>.NAME.0123456789abcdef.tmp</c> is being written, <c>.NAME.0123456789abcdef.old</c> is a folder
/// that was moved aside while its successor takes its place.
/// </summary>
internal static partial class TemporaryName
{
    public const string Unfinished = "tmp";
    public const string Replaced = "old";

    /// <summary>A fresh name in the same folder as <paramref name="fullPath"/>, so that the rename stays within one file system.</summary>
    public static string Beside(string fullPath, string kind)
    {
        var unique = RandomNumberGenerator.GetHexString(16, lowercase: true);
        return Path.Combine(Path.GetDirectoryName(fullPath)!, $".{Path.GetFileName(fullPath)}.{unique}.{kind}");
    }

    /// <summary>Takes such a name apart.</summary>
    public static bool TryParse(string name, [NotNullWhen(true)] out string? target, [NotNullWhen(true)] out string? kind)
    {
        var match = Pattern().Match(name);
        (target, kind) = match.Success ? (match.Groups[1].Value, match.Groups[2].Value) : (null, null);
        return match.Success;
    }

    [GeneratedRegex(@"^\.(.+)\.[0-9a-f]{16}\.(tmp|old)\z", RegexOptions.CultureInvariant | RegexOptions.Singleline)]
    private static partial Regex Pattern();
}
