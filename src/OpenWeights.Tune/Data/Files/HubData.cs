using System.Collections.Concurrent;
using OpenWeights.Hub;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Data sets of the Hugging Face Hub by name (hub://ORG/NAME, or hub://ORG/NAME@REVISION), downloaded into the Hub's own cache.</summary>
internal static class HubData
{
    private const string Card = "README.md";
    private const string MainRevision = "main";

    // The Hub keeps a copy of most data sets as Parquet files on this branch, by config and split.
    private const string Converted = "refs/convert/parquet";

    private static readonly ConcurrentDictionary<(string Path, string? Config, string Split), IReadOnlyList<string>> s_known = new();

    /// <summary>Downloads what a run reads of data sets of the Hub, where it is not in the cache.</summary>
    /// <param name="data">The data section of the run.</param>
    /// <param name="listener">Receives the progress; null for none.</param>
    /// <param name="stop">Ends the download; what has arrived is kept.</param>
    /// <exception cref="InvalidDataException">There is no such data set, config or split; the message names those that there are.</exception>
    /// <exception cref="IOException">The Hub cannot be reached, and the data set is not in the cache.</exception>
    public static void Download(DataSection data, IHubListener? listener, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(data);
        foreach (var source in data.Train.Concat(data.Eval).Where(static s => HubDataPath.Is(s.Path)))
        {
            _ = Files(source, listener, stop);
        }
    }

    /// <summary>The files of a split, downloaded where they are not in the cache. A data set is looked up once while the program runs.</summary>
    /// <param name="source">The data set.</param>
    /// <param name="listener">Receives the progress of a download; null for none.</param>
    /// <param name="stop">Ends a download.</param>
    /// <exception cref="InvalidDataException">There is no such data set, config or split; the message names those that there are.</exception>
    /// <exception cref="IOException">The Hub cannot be reached, and the data set is not in the cache.</exception>
    internal static IReadOnlyList<string> Files(DataSource source, IHubListener? listener = null, CancellationToken stop = default)
    {
        var key = (source.Path, source.Config, source.Split ?? HubSplits.Usual);
        return s_known.TryGetValue(key, out var known) && known.All(File.Exists) ? known : s_known[key] = Fetch(HubSettings.FromEnvironment(), source, listener, stop);
    }

    /// <summary>The files of a split, with given settings.</summary>
    internal static IReadOnlyList<string> Fetch(HubSettings settings, DataSource source, IHubListener? listener, CancellationToken stop)
    {
        var (name, revision) = HubDataPath.Split(source.Path);
        try
        {
            return Fetch(settings, source, name, revision, listener, stop);
        }
        catch (IOException e) when (e is not FileNotFoundException && !settings.Offline && HubDownload.Find(settings, name, revision, HubKind.DataSet) is not null)
        {
            // What is in the cache serves where the Hub is away, if it has all of the split.
            return Fetch(settings with { Offline = true }, source, name, revision, listener, stop);
        }
        catch (HubRefusedException e)
        {
            throw new InvalidDataException($"{source.Path}: {e.Message.TrimEnd('.')}.", e);
        }
    }

    private static IReadOnlyList<string> Fetch(HubSettings settings, DataSource source, string name, string revision, IHubListener? listener, CancellationToken stop)
    {
        var listed = Listed(settings, name, revision, stop);
        var card = listed.Contains(Card) ? File.ReadAllText(Path.Combine(Folder(settings, name, revision, [Card], null, stop), Card)) : "";
        var chosen = HubSplits.Choose(source, card, listed);
        if (chosen.Count == 0 && revision == MainRevision)
        {
            // A data set of other files, or of a program that makes it.
            (revision, listed) = (Converted, Listed(settings, name, Converted, stop));
            chosen = HubSplits.Choose(source, "", listed);
        }

        if (chosen.Count == 0)
        {
            throw new InvalidDataException($"{source.Path}: the data set has no files of Parquet, JSON or CSV.");
        }

        var folder = Folder(settings, name, revision, chosen, listener, stop);
        List<string> files = [.. chosen.Select(file => Path.Combine(folder, file.Replace('/', Path.DirectorySeparatorChar)))];
        return files.TrueForAll(File.Exists) ? files : throw new IOException($"{source.Path}: the cache has not all files of the split, and the Hub is not asked; unset HF_HUB_OFFLINE, or try again.");
    }

    private static List<string> Listed(HubSettings settings, string name, string revision, CancellationToken stop)
    {
        if (!settings.Offline)
        {
            return [.. HubDownload.List(settings, HubKind.DataSet, name, revision, stop).GetAwaiter().GetResult().Files.Select(static f => f.Path)];
        }

        var folder = HubDownload.Find(settings, name, revision, HubKind.DataSet) ?? throw new IOException($"hub://{name} ({revision}) is not in {settings.CacheFolder}, and the Hub is not asked; unset HF_HUB_OFFLINE to download it.");
        return [.. Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(folder, file).Replace('\\', '/'))];
    }

    private static string Folder(HubSettings settings, string name, string revision, IReadOnlyList<string> files, IHubListener? listener, CancellationToken stop) => settings.Offline
        ? HubDownload.Find(settings, name, revision, HubKind.DataSet)!
        : HubDownload.Fetch(settings, HubKind.DataSet, name, revision, new HubFilter(files, []), listener, stop).GetAwaiter().GetResult();
}
