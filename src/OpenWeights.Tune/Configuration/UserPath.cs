using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Configuration;

/// <summary>Expands paths as users write them: ~ for the home folder, ${NAME} and $NAME for environment variables.</summary>
internal static partial class UserPath
{
    private static string Home => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    /// <summary>Whether a path is a glob pattern.</summary>
    public static bool HasWildcard(string path) => path.AsSpan().ContainsAny('*', '?');

    /// <summary>Expands a path.</summary>
    /// <param name="path">The path as written.</param>
    /// <exception cref="ArgumentException">The path contains ~ where it cannot be expanded, or an environment variable that is not
    /// set.</exception>
    public static string Expand(string path) => TryExpand(path, out var expanded, out var problem) ? expanded : throw new ArgumentException(problem, nameof(path));

    /// <summary>Tries to expand a path.</summary>
    /// <param name="path">The path as written.</param>
    /// <param name="expanded">The expanded path.</param>
    /// <param name="problem">What is wrong with the path; empty on success.</param>
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
            problem = $"'{path}': the environment variable {missing} is not set.";
            return false;
        }

        var parts = text.Split('/', '\\');
        if (parts[0] == "~")
        {
            text = Home + text[1..];
        }
        else if (parts[0].StartsWith('~') && !System.IO.Path.Exists(text))
        {
            problem = $"'{path}': ~ stands for your own home folder only; write another user's path in full.";
            return false;
        }

        if (parts.Skip(1).Contains("~"))
        {
            problem = $"'{path}': ~ is allowed only at the start of a path, for the home folder.";
            return false;
        }

        expanded = text;
        return true;
    }

    [GeneratedRegex(@"\$(?:\{(?<braced>[A-Za-z_][A-Za-z0-9_]*)\}|(?<bare>[A-Za-z_][A-Za-z0-9_]*))")]
    private static partial Regex Variable();
}
