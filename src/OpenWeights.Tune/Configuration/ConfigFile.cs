namespace OpenWeights.Tune.Configuration;

/// <summary>A config that was read from a file, and where its settings stand.</summary>
public sealed class ConfigFile
{
    private readonly ConfigPaths _paths;
    private readonly Func<string, string> _placeOf;

    internal ConfigFile(string path, RunConfig config, RunConfig written, ConfigPaths paths, Func<string, string> placeOf, IReadOnlyList<ConfigProblem> problems)
    {
        (Path, Config, Written, _paths, _placeOf, Problems) = (path, config, written, paths, placeOf, problems);
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>The config, its paths whole. A setting that is wrong has its default.</summary>
    public RunConfig Config { get; }

    /// <summary>What is wrong with the settings, files and model apart.</summary>
    public IReadOnlyList<ConfigProblem> Problems { get; }

    /// <summary>The config with its paths as they were written.</summary>
    internal RunConfig Written { get; }

    /// <summary>Whether a setting, or the section that it stands in, is wrong already, so that nothing can be said of its value.</summary>
    /// <param name="key">The setting, with dots.</param>
    internal bool IsWrong(string key) => Problems.Any(p => p.Covers(key));

    /// <summary>Something that is wrong with a setting, at its place.</summary>
    /// <param name="key">The setting, with dots.</param>
    /// <param name="message">What is wrong and what to do.</param>
    /// <param name="isFile">Whether files are wrong, and not the config.</param>
    internal ConfigProblem Problem(string key, string message, bool isFile = false) => new(_placeOf(key), key, message) { IsFile = isFile };

    /// <summary>A path that was looked for in vain.</summary>
    /// <param name="key">The setting, with dots.</param>
    /// <param name="written">The path as it was written.</param>
    internal ConfigProblem NotThere(string key, string written) => Problem(key, _paths.NotThere(written), isFile: true);
}
