using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Evaluation.Tasks;

/// <summary>Reads tasks: a YAML file that lists them, or a data file of questions, which is a task with default settings.</summary>
internal static class TaskFile
{
    /// <summary>Reads tasks; paths in them are absolute then.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="ConfigException">The file does not exist, or is wrong; the exception lists all problems.</exception>
    public static IReadOnlyList<TaskSection> Read(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (System.IO.Path.GetExtension(path).ToLowerInvariant() is not (".yaml" or ".yml"))
        {
            return [new TaskSection { Path = System.IO.Path.GetFullPath(path) }];
        }

        var text = File.Exists(path) ? File.ReadAllText(path) : throw new ConfigException([new ConfigProblem(path, "", "the file does not exist.")]);
        var binder = new ConfigBinder(YamlSource.Read(path, text));
        var tasks = binder.Bind<TaskFileSection>().Tasks;
        var problems = binder.Problems.Concat(tasks.SelectMany((t, i) => Problems(t, $"tasks.{i}", binder))).ToList();
        if (problems.Count > 0)
        {
            throw new ConfigException(problems);
        }

        var folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!;
        return [.. tasks.Select(t => t with { Path = System.IO.Path.Combine(folder, t.Path), ShotsPath = t.ShotsPath is { } shots ? System.IO.Path.Combine(folder, shots) : null })];
    }

    private static IEnumerable<ConfigProblem> Problems(TaskSection task, string at, ConfigBinder binder)
    {
        if (task.Shots > 0 && task.ShotsPath is null)
        {
            yield return new ConfigProblem(binder.PlaceOf($"{at}.shots"), $"{at}.shots_path", "set it to the file of the solved examples, such as the data set's training rows.");
        }
    }
}
