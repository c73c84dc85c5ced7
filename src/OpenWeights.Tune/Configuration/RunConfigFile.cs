using OpenWeights.Tune.Configuration.Foreign;

namespace OpenWeights.Tune.Configuration;

/// <summary>Reads train.yaml.</summary>
internal static class RunConfigFile
{
    /// <summary>Reads and validates a config file with command-line overrides.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">The config is invalid; the exception lists all problems.</exception>
    internal static RunConfig Read(string path, IReadOnlyList<string> overrides) => Open(path, overrides).Config;

    /// <summary>Reads and validates a config file, and keeps the positions of its settings.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">The config is invalid; the exception lists all problems.</exception>
    internal static ConfigFile Open(string path, IReadOnlyList<string> overrides) => Right(Inspect(path, overrides));

    /// <summary>
    /// Reads a config file and reports invalid settings in <see cref="ConfigFile.Problems"/> instead of throwing, so that the others can
    /// still be used.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">The file does not exist, is not YAML, or is a config of another program.</exception>
    internal static ConfigFile Inspect(string path, IReadOnlyList<string> overrides)
    {
        ArgumentNullException.ThrowIfNull(overrides);
        if (!File.Exists(path))
        {
            throw new ConfigException([new ConfigProblem(path, "", NotThere(path)) { IsFile = false }]);
        }

        return Look(path, File.ReadAllText(path), overrides);
    }

    /// <summary>Reads and validates the text of a config.</summary>
    /// <param name="path">Path of the file that contains or will contain the text: used in messages and to resolve relative paths.</param>
    /// <param name="text">The text.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">The config is invalid; the exception lists all problems.</exception>
    internal static ConfigFile Parse(string path, string text, IReadOnlyList<string> overrides) => Right(Look(path, text, overrides));

    private static ConfigFile Right(ConfigFile file) => file.Problems.Count == 0 ? file : throw new ConfigException(file.Problems);

    private static ConfigFile Look(string path, string text, IReadOnlyList<string> overrides)
    {
        if (OtherKind(path, text) is { } other)
        {
            throw new ConfigException([new ConfigProblem(path, "", other)]);
        }

        var source = YamlSource.Read(path, text);
        if (ForeignTool.Of(source.Root) is { } tool)
        {
            throw new ConfigException([new ConfigProblem(path, "", $"this is a config of {tool.Name}; `owt convert {path}` converts it and lists the settings without a counterpart.")]);
        }

        var problems = overrides.Select(source.Override).OfType<ConfigProblem>().ToList();
        RecordedSamples.AddAsData(source.Root);
        var binder = new ConfigBinder(source);
        var config = binder.Bind<RunConfig>();
        problems.AddRange(binder.Problems);

        // Rules skip settings that are already invalid: they would be checked with their default value.
        problems.AddRange(ConfigRules.Of(config).Where(r => !binder.Problems.Any(p => p.Covers(r.Key))).Select(r => new ConfigProblem(binder.PlaceOf(r.Key), r.Key, r.Message)));
        var paths = new ConfigPaths(Path.GetDirectoryName(Path.GetFullPath(path))!);
        return new ConfigFile(paths.Resolve(config), config, paths, binder.PlaceOf, problems);
    }

    // Files that are given in the place of the run's YAML; as YAML they would give many errors that tell nothing.
    private static string? OtherKind(string path, string text) => Path.GetExtension(path).ToLowerInvariant() switch
    {
        ".jsonl" or ".ndjson" or ".csv" or ".tsv" or ".parquet" or ".txt" or ".gz" or ".zst" => "this is a file of rows; a YAML file is expected, which names it: `data: { train: FILE }`.",
        ".safetensors" or ".gguf" => "this is a model; a YAML file is expected, which names it: `model: { path: FILE }`.",
        ".json" when text.Contains("\"model_type\"", StringComparison.Ordinal) => "this is a model's config.json; a YAML file is expected, which names the model's folder: `model: { path: FOLDER }`.",
        _ => null,
    };

    private static string NotThere(string path)
    {
        var folder = Path.GetDirectoryName(Path.GetFullPath(path));
        if (Directory.Exists(path))
        {
            var ofRun = Path.Combine(path, "config.yaml");
            return $"this is a folder; a YAML file is expected{(File.Exists(ofRun) ? $", such as {ofRun}" : "")}.";
        }

        return Directory.Exists(folder)
            ? $"the file does not exist.{Spelling.DidYouMean(Path.GetFileName(path), Directory.EnumerateFiles(folder).Select(static f => Path.GetFileName(f)))}"
            : $"neither the file nor the folder {folder} exists.";
    }
}
