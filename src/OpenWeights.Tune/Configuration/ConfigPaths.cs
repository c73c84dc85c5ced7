using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Configuration;

/// <summary>
/// Resolves relative paths of a YAML file: an input path is looked up next to the file, then in the current folder; an output path is
/// relative to the current folder.
/// </summary>
internal sealed class ConfigPaths(string folder)
{
    private static readonly System.Buffers.SearchValues<char> s_typographicQuotes = System.Buffers.SearchValues.Create("\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb");

    /// <summary>The config with absolute paths.</summary>
    internal RunConfig Resolve(RunConfig config)
    {
        IReadOnlyList<DataSource> Sources(IReadOnlyList<DataSource> sources) => [.. sources.Select(s => HubDataPath.Is(s.Path) || GivenRows.Is(s.Path) ? s with { Format = Own(s.Format) } : s with { Path = Input(s.Path), Format = Own(s.Format) })];
        return config with
        {
            OutputDir = config.OutputDir.Length == 0 ? "" : Path.GetFullPath(config.OutputDir),
            Model = config.Model with { ChatTemplate = Template(config.Model.ChatTemplate), Path = Weights(config.Model.Path) },
            Adapter = config.Adapter is { Path: { } adapter } ? config.Adapter with { Path = Input(adapter) } : config.Adapter,
            Training = config.Training with { LrScheduler = config.Training.LrScheduler is { } schedule ? Own(schedule) : null },
            Evaluation = config.Evaluation with { Metrics = [.. config.Evaluation.Metrics.Select(Own)] },
            Objective = config.Objective with
            {
                Type = Own(config.Objective.Type),
                Reference = config.Objective.Reference is "start" or "base" ? config.Objective.Reference : Weights(config.Objective.Reference),
                Teacher = config.Objective.Teacher is { } teacher ? Weights(teacher) : null,
                Samples = config.Objective.Samples is { } samples ? Input(samples) : null,
                Rewards = [.. config.Objective.Rewards.Select(r => r with { Type = Own(r.Type), Schema = r.Schema is { } schema ? Input(schema) : null, Assembly = r.Assembly is { } assembly ? Input(assembly) : null, Model = r.Model is { Length: > 0 } judge && !IsOnHub(judge) ? Input(judge) : r.Model })],
            },
            Data = config.Data with
            {
                Train = Sources(config.Data.Train),
                Eval = Sources(config.Data.Eval),
                CacheDir = config.Data.CacheDir is { } cache ? Path.GetFullPath(cache) : null,
            },
        };
    }

    /// <summary>Message for a path that does not exist: where it was looked up, and the closest existing name.</summary>
    /// <param name="path">The path as given.</param>
    internal string NotThere(string path)
    {
        var (beside, here) = (Path.GetFullPath(path, folder), Path.GetFullPath(path));
        var tried = beside == here
            ? Path.IsPathFullyQualified(path) ? $"{beside} does not exist." : $"{beside} does not exist (looked up next to this file, which is in the current folder)."
            : $"neither {beside} (next to this file) nor {here} (in the current folder) exists.";
        var nearest = new[] { beside, here }.Distinct().Select(Nearest).FirstOrDefault(static n => n is not null);
        return nearest is not null ? $"{tried} Did you mean {nearest}?"
            : path.AsSpan().ContainsAny(s_typographicQuotes) ? $"{tried} Its quotation marks are typographic ones, which count as a part of the name; write \" or none."
            : tried;
    }

    // A Hub name, unless a file of that name exists.
    private string? Template(string? template) => template is null || NamedTemplates.All.ContainsKey(template) ? template
        : File.Exists(Path.GetFullPath(template, folder)) ? Path.GetFullPath(template, folder)
        : File.Exists(template) ? Path.GetFullPath(template)
        : template;

    private string Weights(string model) => IsOnHub(model) ? model : Input(model);

    private bool IsOnHub(string model) => model.Length > 0 && ModelPath.IsOnHub(model, folder) && !Path.Exists(Path.GetFullPath(model, folder));

    // A class of the user's lies in a file.
    private string Own(string name) => OwnClass.WithPath(name, Input);

    private string Input(string path)
    {
        if (path.Length == 0)
        {
            return path;
        }

        var beside = Path.GetFullPath(path, folder);
        return Path.Exists(beside) || IsPatternOf(beside) ? beside : Path.GetFullPath(path);
    }

    private static bool IsPatternOf(string path)
    {
        while (UserPath.HasWildcard(path))
        {
            path = Path.GetDirectoryName(path) ?? ".";
            if (!UserPath.HasWildcard(path))
            {
                return Directory.Exists(path);
            }
        }

        return false;
    }

    // The first part of the path that does not exist may be a typo.
    private static string? Nearest(string path)
    {
        var (at, rest) = (Path.TrimEndingDirectorySeparator(path), "");
        while (Path.GetDirectoryName(at) is { Length: > 0 } above)
        {
            if (Directory.Exists(above))
            {
                var nearest = Spelling.Nearest(Path.GetFileName(at), Names(above));
                return nearest is null ? null : Path.Combine(above, nearest, rest) is var found && Path.Exists(found) ? found : null;
            }

            (at, rest) = (above, Path.Combine(Path.GetFileName(at), rest));
        }

        return null;
    }

    private static IEnumerable<string> Names(string folder)
    {
        try
        {
            return [.. Directory.EnumerateFileSystemEntries(folder).Take(10_000).Select(static e => Path.GetFileName(e))];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
