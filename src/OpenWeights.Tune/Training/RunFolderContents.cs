using OpenWeights.Formats.Json;
using OpenWeights.Tune.Training.Checkpoints;
using OpenWeights.Tune.Training.Recording.Mlflow;

namespace OpenWeights.Tune.Training;

/// <summary>Distinguishes what a run writes to its folder from files of others, which no run overwrites or deletes.</summary>
internal static class RunFolderContents
{
    private const string EventFiles = "events.out.tfevents.*";
    private const int Named = 5;

    /// <summary>Name of the config.</summary>
    internal const string Config = "config.yaml";

    /// <summary>Name of the folder of checkpoints.</summary>
    internal const string Checkpoints = "checkpoints";

    /// <summary>Names of the folders that a new run replaces.</summary>
    internal static readonly string[] Folders = ["adapter", "model", "best", Checkpoints];

    private static readonly string[] s_files = [Config, RunManifest.Name, "metrics.jsonl", "samples.jsonl", "report.html", MlflowRecorder.StateName];

    /// <summary>
    /// The first file or folder that a run would overwrite although no run wrote it; null if there is none. A run's manifest, or its
    /// checkpoints, identify its folder.
    /// </summary>
    internal static string? Overwritten(string folder)
    {
        if (!Directory.Exists(folder) || IsRun(folder))
        {
            return null;
        }

        return s_files.FirstOrDefault(name => File.Exists(Path.Combine(folder, name)))
            ?? Folders.FirstOrDefault(name => Directory.Exists(Path.Combine(folder, name)) && Directory.EnumerateFileSystemEntries(Path.Combine(folder, name)).Any())
            ?? Directory.EnumerateFiles(folder, EventFiles).Select(Path.GetFileName).FirstOrDefault();
    }

    /// <summary>Warning about other files in the folder, which stay as they are; null if there are none.</summary>
    internal static string? Others(string folder)
    {
        if (!Directory.Exists(folder))
        {
            return null;
        }

        var own = Directory.EnumerateFiles(folder, EventFiles).Select(Path.GetFileName).Concat(s_files).Concat(Folders).ToHashSet();
        var others = Directory.EnumerateFileSystemEntries(folder).Select(Path.GetFileName).Where(name => !own.Contains(name) && !name!.StartsWith('.')).Order(StringComparer.Ordinal).ToList();
        return others.Count == 0 ? null
            : $"output_dir {folder} also contains {string.Join(", ", others.Take(Named))}{(others.Count > Named ? $" and {others.Count - Named} more" : "")}, which no run wrote; the run adds its own files and leaves these unchanged. Choose a new folder to keep them apart.";
    }

    private static bool IsRun(string folder)
    {
        var manifest = Path.Combine(folder, RunManifest.Name);
        try
        {
            if (File.Exists(manifest) && JsonFile.ReadObject(manifest) is var json && json["torch_runtime"] is not null && json["config"] is not null)
            {
                return true;
            }
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            // Not a manifest of a run.
        }

        return new CheckpointStore(Path.Combine(folder, Checkpoints)).HasAny;
    }
}
