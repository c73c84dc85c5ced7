using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using OpenWeights.Formats.Files;

namespace OpenWeights.Tune.Training.Checkpoints;

/// <summary>The checkpoints of a run. Each is written completely or not at all, and verified byte for byte before it is used.</summary>
internal sealed class CheckpointStore
{
    private const string ChecksumName = "checksums.json";
    private const string Prefix = "step-";
    private readonly string _folder;

    /// <summary>Creates the store of a run.</summary>
    /// <param name="folder">The folder of the checkpoints.</param>
    public CheckpointStore(string folder) => _folder = folder;

    /// <summary>Writes a checkpoint, then deletes older ones.</summary>
    /// <param name="step">Number of completed steps.</param>
    /// <param name="keep">Number of checkpoints to keep.</param>
    /// <param name="fill">Writes the checkpoint's files into the given folder.</param>
    /// <exception cref="IOException">The disk is full, or the folder cannot be written; earlier checkpoints are unchanged.</exception>
    public void Save(long step, int keep, Action<string> fill)
    {
        _ = Directory.CreateDirectory(_folder);
        AtomicFolder.Write(
            PathOf(step),
            folder =>
            {
                fill(folder);
                AtomicFile.WriteText(Path.Combine(folder, ChecksumName), JsonSerializer.Serialize(Checksums(folder)));
            },
            replace: true);
        foreach (var old in Steps().Where(s => s < step).Skip(keep - 1))
        {
            Directory.Delete(PathOf(old), recursive: true);
        }
    }

    /// <summary>The latest undamaged checkpoint; damaged ones are reported and skipped.</summary>
    /// <param name="warn">Receives a warning about each damaged checkpoint.</param>
    /// <returns>The folder and the number of completed steps, or null if there is none.</returns>
    public (string Folder, long Step)? Newest(Action<string> warn)
    {
        ArgumentNullException.ThrowIfNull(warn);
        if (!Directory.Exists(_folder))
        {
            return null;
        }

        foreach (var step in Steps())
        {
            var folder = PathOf(step);
            if (Damage(folder) is not { } damage)
            {
                return (folder, step);
            }

            warn($"{folder} is damaged ({damage}) and is skipped.");
        }

        return null;
    }

    /// <summary>Whether there is a checkpoint.</summary>
    public bool HasAny => Directory.Exists(_folder) && Steps().Any();

    /// <summary>Deletes incomplete files left by killed runs.</summary>
    public void Clean()
    {
        if (Directory.Exists(_folder))
        {
            _ = StaleFiles.Clean(_folder);
        }
    }

    /// <summary>Folder of the checkpoint after a number of steps.</summary>
    /// <param name="step">Number of completed steps.</param>
    internal string PathOf(long step) => Path.Combine(_folder, string.Create(CultureInfo.InvariantCulture, $"{Prefix}{step:D8}"));

    private IEnumerable<long> Steps() => Directory.EnumerateDirectories(_folder)
        .Select(static path => Path.GetFileName(path))
        .Where(static name => name.StartsWith(Prefix, StringComparison.Ordinal))
        .Select(static name => long.TryParse(name.AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var step) ? step : -1)
        .Where(static step => step >= 0)
        .OrderDescending();

    private static SortedDictionary<string, string> Checksums(string folder)
    {
        var checksums = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var path in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            var name = Path.GetRelativePath(folder, path).Replace('\\', '/');
            if (name != ChecksumName)
            {
                using var stream = File.OpenRead(path);
                checksums[name] = Convert.ToHexStringLower(SHA256.HashData(stream));
            }
        }

        return checksums;
    }

    private static string? Damage(string folder)
    {
        var list = Path.Combine(folder, ChecksumName);
        if (!File.Exists(list))
        {
            return $"{ChecksumName} is missing";
        }

        try
        {
            var written = JsonSerializer.Deserialize<SortedDictionary<string, string>>(File.ReadAllText(list)) ?? [];
            var there = Checksums(folder);
            var wrong = written.Where(w => there.GetValueOrDefault(w.Key) != w.Value).Select(static w => w.Key).ToList();
            return wrong.Count == 0 ? null : $"{string.Join(", ", wrong)} changed or missing";
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            return e.Message;
        }
    }
}
