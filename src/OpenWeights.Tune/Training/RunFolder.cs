using OpenWeights.Formats.Files;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training.Checkpoints;

namespace OpenWeights.Tune.Training;

/// <summary>The folder of a run: paths of its files, and a lock so that only one run writes to it.</summary>
internal sealed class RunFolder : IDisposable
{
    private const string ReportName = "report.html";
    private static readonly string[] s_results = ["adapter", "model"];
    private readonly FileStream _lock;

    private RunFolder(string path, FileStream @lock)
    {
        FolderPath = path;
        _lock = @lock;
        Checkpoints = new CheckpointStore(Path.Combine(path, RunFolderContents.Checkpoints));
    }

    /// <summary>Path of the folder.</summary>
    public string FolderPath { get; }

    /// <summary>Folder of the checkpoints.</summary>
    public CheckpointStore Checkpoints { get; }

    /// <summary>The config that the run was started with.</summary>
    public string ConfigPath => Path.Combine(FolderPath, RunFolderContents.Config);

    /// <summary>Metrics, one line per step.</summary>
    public string MetricsPath => Path.Combine(FolderPath, "metrics.jsonl");

    /// <summary>Answers generated during training.</summary>
    public string SamplesPath => Path.Combine(FolderPath, "samples.jsonl");

    /// <summary>The report.</summary>
    public string ReportPath => Path.Combine(FolderPath, ReportName);

    /// <summary>The weights with the lowest eval loss.</summary>
    public string BestPath => BestPathOf(FolderPath);

    /// <summary>The manifest: what the run was made from.</summary>
    public string ManifestPath => Path.Combine(FolderPath, RunManifest.Name);

    /// <summary>The report of the run that made an adapter or a model: that of the folder that it lies in, or, for a checkpoint, the one above.</summary>
    /// <param name="result">The folder of the adapter or model.</param>
    /// <returns>The path; null where no run made it, or its report is gone.</returns>
    public static string? ReportOf(string result)
    {
        var folder = Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(result)));
        for (var up = 0; up < 2 && folder is not null; up++, folder = Path.GetDirectoryName(folder))
        {
            var report = Path.Combine(folder, ReportName);
            if (File.Exists(report) && File.Exists(Path.Combine(folder, RunManifest.Name)))
            {
                return report;
            }
        }

        return null;
    }

    /// <summary>Where the best weights are in a run's folder, which another process holds.</summary>
    /// <param name="path">The folder.</param>
    internal static string BestPathOf(string path) => Path.Combine(path, "best");

    /// <summary>The checkpoints in a run's folder, which another process holds.</summary>
    /// <param name="path">The folder.</param>
    internal static CheckpointStore CheckpointsOf(string path) => new(Path.Combine(path, RunFolderContents.Checkpoints));

    /// <summary>Locks a folder for a run.</summary>
    /// <param name="path">The folder; created if missing.</param>
    /// <exception cref="IOException">Another run is writing to the folder, or it cannot be created.</exception>
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
            throw new IOException($"{path}: another run is writing to this folder; wait for it, or choose another output_dir.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new IOException($"{path}: this folder cannot be created or written to ({e.Message.TrimEnd('.')}); choose another output_dir.", e);
        }
    }

    /// <summary>Refuses a folder that cannot be written, or that another run is writing, before minutes are spent on what the run reads. Nothing of
    /// it stays.</summary>
    /// <param name="path">The folder.</param>
    /// <exception cref="IOException">Another run is writing to the folder, or it cannot be created.</exception>
    public static void RequireWritable(string path)
    {
        List<string> made = [];
        for (var at = path; !string.IsNullOrEmpty(at) && !Path.Exists(at); at = Path.GetDirectoryName(at))
        {
            made.Add(at);
        }

        Take(path).Dispose();
        try
        {
            made.ForEach(Directory.Delete);
        }
        catch (IOException)
        {
            // Another run has begun there meanwhile.
        }
    }

    /// <summary>Whether the folder contains the result of a run.</summary>
    public bool HasResult => s_results.Any(r => Directory.Exists(ResultPath(r)));

    /// <summary>The folder of the result.</summary>
    /// <param name="name">adapter or model.</param>
    public string ResultPath(string name) => Path.Combine(FolderPath, name);

    /// <summary>The config that the run in a folder was started with; null if there is none.</summary>
    /// <param name="path">The folder.</param>
    /// <exception cref="ConfigException">The file exists but is invalid.</exception>
    internal static RunConfig? StartedWith(string path)
    {
        var config = Path.Combine(path, RunFolderContents.Config);
        return File.Exists(config) ? RunConfigFile.Read(config, []) : null;
    }

    /// <summary>
    /// The result of the finished run in a config's folder, if the config asks for no further steps; otherwise null. The settings that
    /// affect the run's steps and evaluation are compared with those it was started with.
    /// </summary>
    /// <param name="config">The run.</param>
    /// <param name="totalSteps">Total number of steps; null if the data has not been read.</param>
    /// <param name="ranks">Number of ranks that would continue the run.</param>
    /// <exception cref="ConfigException">The config that the run was started with is invalid, or a setting differs that its steps depend on.</exception>
    /// <exception cref="InvalidDataException">The manifest cannot be read.</exception>
    public static RunResult? Finished(RunConfig config, long? totalSteps = null, int ranks = 1)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (RunManifest.Result(config.OutputDir) is not { } result || StartedWith(config.OutputDir) is not { } started)
        {
            return null;
        }

        var counts = (RunManifest.Ranks(config.OutputDir), ranks);
        ResumeCheck.Run(Path.Combine(config.OutputDir, RunFolderContents.Config), RunDefaults.Continue(config, started, counts), static _ => { }, counts);
        // As written: sections with lists are not equal by value.
        if (ConfigWriter.Write(started with { Evaluation = config.Evaluation }) != ConfigWriter.Write(started))
        {
            return null;
        }

        var (now, before) = (config.Training, started.Training);
        var asksForMore = now.MaxSteps != before.MaxSteps ? (totalSteps ?? now.MaxSteps ?? long.MaxValue) > result.LastStep : now.MaxSteps is null && now.Epochs > before.Epochs;
        return asksForMore ? null : result;
    }

    /// <summary>Throws if a new run would overwrite anything in the folder without permission.</summary>
    /// <param name="config">The run.</param>
    /// <param name="resume">Whether it continues from the latest checkpoint.</param>
    /// <param name="overwrite">Whether an earlier run in the folder may be deleted.</param>
    /// <exception cref="ConfigException">The folder contains an earlier run, or files that this run reads.</exception>
    public static void RequireFree(RunConfig config, bool resume, bool overwrite)
    {
        ArgumentNullException.ThrowIfNull(config);
        var path = config.OutputDir;
        var checkpoints = new CheckpointStore(Path.Combine(path, RunFolderContents.Checkpoints)).HasAny;
        var result = s_results.FirstOrDefault(r => Directory.Exists(Path.Combine(path, r)));
        if (resume && checkpoints)
        {
            return;
        }

        void Refuse(string what) => throw new ConfigException([new ConfigProblem(path, "output_dir", what)]);
        if (RunFolderContents.Folders.FirstOrDefault(r => Reads(config, Path.Combine(path, r))) is { } read)
        {
            Refuse($"the run would overwrite {Path.Combine(path, read)}, which it reads; choose another folder.");
        }

        if (Foreign(path) is { } foreign)
        {
            Refuse(foreign);
        }

        if (result is not null && !overwrite)
        {
            Refuse($"this folder contains a finished run ({result}){(resume ? " and no checkpoint to resume from" : "")}; start over with --overwrite, which deletes it, or choose another folder.");
        }

        if (checkpoints && !overwrite)
        {
            Refuse("this folder contains an unfinished run; continue with --resume, start over with --overwrite, or choose another folder.");
        }
    }

    /// <summary>Problem if the run would overwrite something in the folder that no run wrote; null if there is nothing.</summary>
    internal static string? Foreign(string path) => RunFolderContents.Overwritten(path) is { } name
        ? $"this folder contains {name}, which was not written by a run and would be overwritten; choose another folder, or move {name} elsewhere."
        : null;

    /// <summary>Prepares the folder for a new run: files of an earlier run are deleted.</summary>
    /// <param name="warn">Receives a warning about what is deleted.</param>
    public void StartAnew(Action<string> warn)
    {
        ArgumentNullException.ThrowIfNull(warn);
        if (HasResult || Checkpoints.HasAny)
        {
            warn($"the earlier run in {FolderPath} is deleted.");
        }

        if (RunFolderContents.Others(FolderPath) is { } others)
        {
            warn(others);
        }

        foreach (var name in RunFolderContents.Folders)
        {
            if (Directory.Exists(Path.Combine(FolderPath, name)))
            {
                Directory.Delete(Path.Combine(FolderPath, name), recursive: true);
            }
        }
    }

    private static bool Reads(RunConfig config, string folder)
    {
        if (!Directory.Exists(folder))
        {
            return false;
        }

        var inside = Path.GetFullPath(folder) + Path.DirectorySeparatorChar;
        return new[] { config.Model.Path, config.Adapter?.Path }.Concat(config.Data.Train.Concat(config.Data.Eval).Select(static s => s.Path))
            .Any(p => !string.IsNullOrEmpty(p) && (Path.GetFullPath(p) + Path.DirectorySeparatorChar).StartsWith(inside, StringComparison.Ordinal));
    }

    /// <summary>Deletes incomplete files left by killed runs.</summary>
    public void Clean()
    {
        _ = StaleFiles.Clean(FolderPath);
        Checkpoints.Clean();
    }

    /// <summary>Releases the lock.</summary>
    public void Dispose() => _lock.Dispose();
}
