using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Configuration;

/// <summary>Paths as people write them: ~ is the home folder, and ${NAME} and $NAME are variables of the environment.</summary>
public static partial class UserPath
{
    private static string Home => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    /// <summary>Whether a path is a pattern.</summary>
    public static bool HasWildcard(string path) => path.AsSpan().ContainsAny('*', '?');

    /// <summary>The path that is meant.</summary>
    /// <param name="path">What was written.</param>
    /// <exception cref="ArgumentException">A ~ stands where it is no home folder, or a variable is not set.</exception>
    public static string Expand(string path) => TryExpand(path, out var expanded, out var problem) ? expanded : throw new ArgumentException(problem, nameof(path));

    /// <summary>The path that is meant, where it can be told.</summary>
    /// <param name="path">What was written.</param>
    /// <param name="expanded">The path.</param>
    /// <param name="problem">What is wrong with it, or nothing.</param>
    public static bool TryExpand(string path, out string expanded, out string problem)
    {
        ArgumentNullException.ThrowIfNull(path);
        (expanded, problem) = (path, "");
        if (path.AsSpan().IndexOfAnyInRange('\0', '\x1f') is >= 0 and var at)
        {
            problem = $"'{path[..at]}...': a character follows that no path has. In double quotes a backslash begins such characters; write / or single quotes.";
            return false;
        }

        var missing = "";
        var text = Variable().Replace(path, found =>
        {
            var braced = found.Groups["braced"].Success;
            var name = found.Groups[braced ? "braced" : "bare"].Value;
            if (Environment.GetEnvironmentVariable(name) is { } value)
            {
                return value;
            }

            missing = braced ? name : missing;
            return found.Value;
        });
        if (missing.Length > 0)
        {
            problem = $"'{path}': {missing} is not set in the environment.";
            return false;
        }

        var parts = text.Split('/', '\\');
        if (parts[0] == "~")
        {
            text = Home + text[1..];
        }
        else if (parts[0].StartsWith('~') && !System.IO.Path.Exists(text))
        {
            problem = $"'{path}': only ~ itself, your own home folder, is known; write another one's path out.";
            return false;
        }

        if (parts.Skip(1).Contains("~"))
        {
            problem = $"'{path}': ~ is the home folder at the start of a path only; a folder of that name is refused.";
            return false;
        }

        expanded = text;
        return true;
    }

    [GeneratedRegex(@"\$(?:\{(?<braced>[A-Za-z_][A-Za-z0-9_]*)\}|(?<bare>[A-Za-z_][A-Za-z0-9_]*))")]
    private static partial Regex Variable();
}
