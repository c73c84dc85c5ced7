using OpenWeights.Tune.Configuration.Foreign;

namespace OpenWeights.Tune.Configuration;

/// <summary>Reads train.yaml.</summary>
public static class RunConfigFile
{
    /// <summary>A config from a file and the overrides of a command line, checked whole.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">Something is wrong; everything that is wrong is in it.</exception>
    public static RunConfig Read(string path, IReadOnlyList<string> overrides) => Open(path, overrides).Config;

    /// <summary>The same, with the places that its settings stand at.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">Something is wrong; everything that is wrong is in it.</exception>
    public static ConfigFile Open(string path, IReadOnlyList<string> overrides) => Right(Inspect(path, overrides));

    /// <summary>The same, where what is wrong with the settings is told by <see cref="ConfigFile.Problems"/>, so that the others can be looked at.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">There is no such file, or it is no YAML, or another program's.</exception>
    public static ConfigFile Inspect(string path, IReadOnlyList<string> overrides)
    {
        ArgumentNullException.ThrowIfNull(overrides);
        if (!File.Exists(path))
        {
            throw new ConfigException([new ConfigProblem(path, "", NotThere(path)) { IsFile = false }]);
        }

        return Look(path, File.ReadAllText(path), overrides);
    }

    /// <summary>The same of a text.</summary>
    /// <param name="path">The file that the text stands or will stand in: its place in messages, and where relative paths are looked for.</param>
    /// <param name="text">The text.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">Something is wrong; everything that is wrong is in it.</exception>
    internal static ConfigFile Parse(string path, string text, IReadOnlyList<string> overrides) => Right(Look(path, text, overrides));

    private static ConfigFile Right(ConfigFile file) => file.Problems.Count == 0 ? file : throw new ConfigException(file.Problems);

    private static ConfigFile Look(string path, string text, IReadOnlyList<string> overrides)
    {
        var source = YamlSource.Read(path, text);
        if (ForeignTool.Of(source.Root) is { } tool)
        {
            throw new ConfigException([new ConfigProblem(path, "", $"this is a config of {tool.Name}, and not of this program; `owt convert {path}` writes it in the words of this one, and lists what has no counterpart.")]);
        }

        var problems = overrides.Select(source.Override).OfType<ConfigProblem>().ToList();
        var binder = new ConfigBinder(source);
        var config = binder.Bind<RunConfig>();
        problems.AddRange(binder.Problems);

        // What a rule says of a setting that is wrong already would be said of its default.
        problems.AddRange(ConfigRules.Of(config).Where(r => !binder.Problems.Any(p => p.Covers(r.Key))).Select(r => new ConfigProblem(binder.PlaceOf(r.Key), r.Key, r.Message)));
        var paths = new ConfigPaths(Path.GetDirectoryName(Path.GetFullPath(path))!);
        return new ConfigFile(path, paths.Resolve(config), config, paths, binder.PlaceOf, problems);
    }

    private static string NotThere(string path)
    {
        var folder = Path.GetDirectoryName(Path.GetFullPath(path));
        if (Directory.Exists(path))
        {
            var ofRun = Path.Combine(path, "config.yaml");
            return $"this is a folder; a YAML file is expected{(File.Exists(ofRun) ? $", such as {ofRun}" : "")}.";
        }

        return Directory.Exists(folder)
            ? $"there is no such file.{Spelling.DidYouMean(Path.GetFileName(path), Directory.EnumerateFiles(folder).Select(static f => Path.GetFileName(f)))}"
            : $"there is no such file, nor the folder {folder}.";
    }
}
