using OpenWeights.Formats.HuggingFace;
using OpenWeights.Hub;

namespace OpenWeights.Tune.Configuration;

/// <content>Models of the Hub that are looked at and not loaded.</content>
internal static partial class ModelPath
{
    private const string Weights = ".safetensors";

    /// <summary>
    /// A folder that tells what a model or an adapter of the Hub is. An adapter is downloaded, as are a model's settings and tokenizer; of its weights
    /// the headers alone, unless they are in the cache already.
    /// </summary>
    /// <param name="model">A name on the Hub.</param>
    /// <param name="folder">A folder that does not exist, for what is not kept.</param>
    /// <param name="listener">Receives download progress; null for none.</param>
    /// <param name="stop">Cancels a download.</param>
    /// <exception cref="InvalidDataException">The Hub has no such model, or its files are not those of one.</exception>
    /// <exception cref="IOException">The Hub cannot be reached.</exception>
    public static string Look(string model, string folder, IHubListener? listener = null, CancellationToken stop = default)
    {
        var (name, revision) = Split(model);
        var settings = HubSettings.FromEnvironment();
        return HubDownload.Find(settings, name, revision) is { } here && IsWhole(here) ? here
            : Ask(model, () => Look(settings, name, revision, folder, listener, stop));
    }

    private static async Task<string> Look(HubSettings settings, string name, string revision, string folder, IHubListener? listener, CancellationToken stop)
    {
        if (settings.Offline)
        {
            return await HubDownload.Fetch(settings, name, revision, HubFilter.Model, listener, stop).ConfigureAwait(false);
        }

        var found = await HubDownload.List(settings, HubKind.Model, name, revision, stop).ConfigureAwait(false);
        bool Has(string file) => found.Files.Any(f => f.Path == file);
        if (!Has(ModelFolder.ConfigName) && found.Files.FirstOrDefault(static f => f.Path.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase)) is { } gguf)
        {
            throw new InvalidDataException($"{name} has GGUF files and no {ModelFolder.ConfigName}; `owt download {name} --include {gguf.Path}` fetches one of them, which is then a file to name");
        }

        if (!Has(ModelFolder.ConfigName) || Has(AdapterFolder.ConfigName))
        {
            return await HubDownload.Fetch(settings, name, revision, HubFilter.Model, listener, stop).ConfigureAwait(false);
        }

        var small = await HubDownload.Fetch(settings, name, revision, HubFilter.Model with { Exclude = ["*" + Weights] }, listener, stop).ConfigureAwait(false);
        foreach (var file in Directory.EnumerateFiles(small, "*", SearchOption.AllDirectories).Where(static f => !f.EndsWith(Weights, StringComparison.Ordinal)))
        {
            var copy = Path.Combine(folder, Path.GetRelativePath(small, file));
            _ = Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }

        await HubDownload.FetchHeaders(settings, found, folder, stop).ConfigureAwait(false);
        return folder;
    }
}
