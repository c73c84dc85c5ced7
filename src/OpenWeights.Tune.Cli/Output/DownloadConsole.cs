using System.Diagnostics;
using OpenWeights.Hub;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Shows download progress on stderr: an updating line on a terminal, otherwise a line every few seconds.</summary>
internal sealed class DownloadConsole : IHubListener
{
    private readonly long _started = Stopwatch.GetTimestamp();
    private readonly TimeSpan _between = TimeSpan.FromSeconds(Console.IsErrorRedirected ? 10 : 0.3);
    private long _last;

    public void Found(HubRevision revision, IReadOnlyList<HubFile> files, long missingBytes)
    {
        Console.Error.WriteLine($"{revision.Name} at {revision.Commit[..12]}: {files.Count} files, {Amount.Bytes(files.Sum(static f => f.Size))}, of which {Amount.Bytes(missingBytes)} to download");
        Console.Error.WriteLine($"licence: {revision.License ?? "the model's card names none"}");
    }

    public void Progressed(long done, long total)
    {
        if (Stopwatch.GetElapsedTime(_last) < _between && done < total)
        {
            return;
        }

        _last = Stopwatch.GetTimestamp();
        var text = $"{Amount.Bytes(done)} of {Amount.Bytes(total)} after {Amount.Time(Stopwatch.GetElapsedTime(_started))}";
        if (Console.IsErrorRedirected)
        {
            Console.Error.WriteLine(text);
        }
        else
        {
            Console.Error.Write($"\r{text}   {(done >= total ? "\n" : "")}");
        }
    }
}
