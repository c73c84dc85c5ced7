namespace OpenWeights.Tune.Configuration;

/// <summary>A config read from a file, with the positions of its settings.</summary>
internal sealed class ConfigFile
{
    private readonly ConfigPaths _paths;
    private readonly Func<string, string> _placeOf;

    internal ConfigFile(RunConfig config, RunConfig written, ConfigPaths paths, Func<string, string> placeOf, IReadOnlyList<ConfigProblem> problems)
    {
        (Config, Written, _paths, _placeOf, Problems) = (config, written, paths, placeOf, problems);
    }

    /// <summary>The config with absolute paths. An invalid setting has its default value.</summary>
    public RunConfig Config { get; }

    /// <summary>Problems with the settings; files and the model are not checked.</summary>
    public IReadOnlyList<ConfigProblem> Problems { get; }

    /// <summary>The config with paths as written in the file.</summary>
    internal RunConfig Written { get; }

    /// <summary>Whether a problem was already reported for a setting or its section, so its value must not be checked further.</summary>
    /// <param name="key">Dotted name of the setting.</param>
    internal bool IsWrong(string key) => Problems.Any(p => p.Covers(key));

    /// <summary>Creates a problem at the position of a setting.</summary>
    /// <param name="key">Dotted name of the setting.</param>
    /// <param name="message">What is wrong and how to fix it.</param>
    /// <param name="isFile">Whether the problem lies in files named by the config, not in the config itself.</param>
    internal ConfigProblem Problem(string key, string message, bool isFile = false) => new(_placeOf(key), key, message) { IsFile = isFile };

    /// <summary>Creates a problem for a path that does not exist.</summary>
    /// <param name="key">Dotted name of the setting.</param>
    /// <param name="written">The path as written in the file.</param>
    internal ConfigProblem NotThere(string key, string written) => Problem(key, _paths.NotThere(written), isFile: true);
}
