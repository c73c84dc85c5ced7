using System.Text.RegularExpressions;
using OpenWeights.Hub;

namespace OpenWeights.Tune.Configuration;

/// <summary>A path that names a data set of the Hugging Face Hub: hub://ORG/NAME, or hub://ORG/NAME@REVISION.</summary>
internal static partial class HubDataPath
{
    private const string Prefix = "hub://";
    private const string MainRevision = "main";

    /// <summary>Whether a path names a data set of the Hub.</summary>
    internal static bool Is(string path) => path.StartsWith(Prefix, StringComparison.Ordinal);

    /// <summary>What is wrong with a path that names a data set of the Hub; null if nothing is.</summary>
    internal static string? Problem(string path) => Is(path) && !HubName.IsName(Split(path).Name)
        ? $"'{path}' names no data set of the Hub; write hub://ORG/NAME, and the files with split and config." : null;

    /// <summary>The name and the revision.</summary>
    internal static (string Name, string Revision) Split(string path)
    {
        var match = Named().Match(path);
        return (match.Groups[1].Value, match.Groups[2].Success ? match.Groups[2].Value : MainRevision);
    }

    [GeneratedRegex(@"\Ahub://([^@]*)(?:@(.+))?\z")]
    private static partial Regex Named();
}
