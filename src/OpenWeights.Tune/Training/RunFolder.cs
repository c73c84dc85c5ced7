using OpenWeights.Formats.Files;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training.Checkpoints;

namespace OpenWeights.Tune.Training;

/// <summary>A run's folder: where its files lie, and that one run alone writes them.</summary>
public sealed class RunFolder : IDisposable
{
    private readonly FileStream _lock;

    private RunFolder(string path, FileStream @lock)
    {
        FolderPath = path;
        _lock = @lock;
        Checkpoints = new CheckpointStore(Path.Combine(path, "checkpoints"));
    }

    /// <summary>The folder.</summary>
    public string FolderPath { get; }

    /// <summary>Its checkpoints.</summary>
    public CheckpointStore Checkpoints { get; }

    /// <summary>The config that the run was started with.</summary>
    public string ConfigPath => Path.Combine(FolderPath, "config.yaml");

    /// <summary>Metrics, a line for each step.</summary>
    public string MetricsPath => Path.Combine(FolderPath, "metrics.jsonl");

    /// <summary>Answers while training.</summary>
    public string SamplesPath => Path.Combine(FolderPath, "samples.jsonl");

    /// <summary>The page that people look at.</summary>
    public string ReportPath => Path.Combine(FolderPath, "report.html");

    /// <summary>The weights with the least eval loss.</summary>
    public string BestPath => Path.Combine(FolderPath, "best");

    /// <summary>What made the run.</summary>
    public string ManifestPath => Path.Combine(FolderPath, "manifest.json");

    /// <summary>Takes a folder for a run.</summary>
    /// <param name="path">The folder; it is made where it is missing.</param>
    /// <exception cref="IOException">Another run writes the folder, or it cannot be made.</exception>
    public static RunFolder Take(string path)
    {
        var name = Path.Combine(path, ".lock");
        try
        {
            _ = Directory.CreateDirectory(path);
            return new RunFolder(path, new FileStream(name, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose));
        }
        catch (IOException e) when (File.Exists(name))
        {
            throw new IOException($"{path}: another run is writing this folder; wait for it, or give another output_dir.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new IOException($"{path}: this folder cannot be made or written to ({e.Message.TrimEnd('.')}); give another output_dir.", e);
        }
    }

    /// <summary>The folder of the result.</summary>
    /// <param name="name">adapter or model.</param>
    public string ResultPath(string name) => Path.Combine(FolderPath, name);

    /// <summary>Makes the folder ready for a run from its start.</summary>
    /// <param name="overwrite">Whether an unfinished run in it may be lost.</param>
    /// <param name="warn">Is told what is replaced.</param>
    /// <exception cref="ConfigException">The folder holds an unfinished run.</exception>
    public void StartAnew(bool overwrite, Action<string> warn)
    {
        ArgumentNullException.ThrowIfNull(warn);
        var finished = Directory.Exists(ResultPath("adapter")) || Directory.Exists(ResultPath("model"));
        if (Checkpoints.HasAny && !finished && !overwrite)
        {
            throw new ConfigException([new ConfigProblem(FolderPath, "output_dir", "this folder holds an unfinished run; go on with --resume, start over with --overwrite, or give another folder.")]);
        }

        if (finished || Checkpoints.HasAny)
        {
            warn($"{FolderPath} holds an earlier run, which this one replaces.");
        }

        foreach (var name in new[] { "adapter", "model", "best", "checkpoints" })
        {
            if (Directory.Exists(Path.Combine(FolderPath, name)))
            {
                Directory.Delete(Path.Combine(FolderPath, name), recursive: true);
            }
        }
    }

    /// <summary>Removes what killed runs left half-written.</summary>
    public void Clean()
    {
        _ = Leftovers.Clean(FolderPath);
        Checkpoints.Clean();
    }

    /// <summary>Lets go of the folder.</summary>
    public void Dispose() => _lock.Dispose();
}
