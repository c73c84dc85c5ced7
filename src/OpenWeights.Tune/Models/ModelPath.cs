using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Hub;
using OpenWeights.Formats.HuggingFace;

namespace OpenWeights.Tune.Models;

/// <summary>What people give as a model: a folder, a GGUF file, which is read as a folder, or a name on the Hugging Face Hub.</summary>
public static class ModelPath
{
    private const string MainRevision = "main";

    /// <summary>Whether a text names a model on the Hub: ORG/NAME, or ORG/NAME@REVISION, and nothing of that name is here.</summary>
    /// <param name="model">The text.</param>
    public static bool IsOnHub(string model)
    {
        ArgumentNullException.ThrowIfNull(model);
        return !Path.Exists(model) && HubName.IsName(Split(model).Name);
    }

    /// <summary>Whether a model is on the Hub and no whole copy of it is here, so that reading it would download it.</summary>
    /// <param name="model">The text.</param>
    public static bool WouldDownload(string model)
    {
        if (!IsOnHub(model))
        {
            return false;
        }

        var (name, revision) = Split(model);
        return HubDownload.Find(HubSettings.FromEnvironment(), name, revision) is not { } here || !IsWhole(here);
    }

    /// <summary>The folder to read a model from. One of the Hub is fetched, unless a whole copy of it is here.</summary>
    /// <param name="model">A folder, a GGUF file, or a name on the Hub.</param>
    /// <param name="listener">Is told of a download; null for nobody.</param>
    /// <param name="stop">Stops a download.</param>
    /// <exception cref="InvalidDataException">The GGUF file cannot be read, or the Hub has no such thing.</exception>
    /// <exception cref="IOException">The Hub cannot be reached.</exception>
    public static string Resolve(string model, IHubListener? listener = null, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (!IsOnHub(model))
        {
            return File.Exists(model) && GgufFile.IsGguf(model) ? GgufFolder.Unpack(model) : model;
        }

        return Fetch(model, HubFilter.Model, IsWhole, listener, stop);
    }

    /// <summary>The folder to read a model's settings and tokenizer from; of one on the Hub these files alone are fetched, and no weights.</summary>
    /// <param name="model">A folder, a config.json, a GGUF file, or a name on the Hub.</param>
    /// <param name="listener">Is told of a download; null for nobody.</param>
    /// <param name="stop">Stops a download.</param>
    /// <exception cref="InvalidDataException">The GGUF file cannot be read, or the Hub has no such thing.</exception>
    /// <exception cref="IOException">The Hub cannot be reached.</exception>
    public static string ResolveSettings(string model, IHubListener? listener = null, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (File.Exists(model) && Path.GetFileName(model) == ModelFolder.ConfigName)
        {
            return Path.GetDirectoryName(Path.GetFullPath(model))!;
        }

        return IsOnHub(model) ? Fetch(model, HubFilter.Settings, ModelFolder.IsModel, listener, stop) : Resolve(model, listener, stop);
    }

    /// <summary>The folder or file to read a tokenizer and its chat template from: as <see cref="Resolve"/>, but a GGUF file needs no model that can
    /// be run here.</summary>
    /// <param name="tokenizer">A folder, a tokenizer's file, a GGUF file, or a name on the Hub.</param>
    /// <param name="listener">Is told of a download; null for nobody.</param>
    /// <param name="stop">Stops a download.</param>
    /// <exception cref="InvalidDataException">The GGUF file has no tokenizer that can be read, or the Hub has no such thing.</exception>
    /// <exception cref="IOException">The Hub cannot be reached.</exception>
    public static string ResolveTokenizer(string tokenizer, IHubListener? listener = null, CancellationToken stop = default) =>
        File.Exists(tokenizer) && GgufFile.IsGguf(tokenizer) ? GgufFolder.UnpackTokenizer(tokenizer) : Resolve(tokenizer, listener, stop);

    /// <summary>How others may know a model that was read from a folder: its name on the Hub for one of the hub's cache, else the last name of the
    /// GGUF file or of the folder. What is meant to be shared names no place of this machine.</summary>
    /// <param name="folder">The folder.</param>
    public static string NameOf(string folder)
    {
        const string prefix = "models--";
        var parts = Path.GetFullPath(folder).Split(Path.DirectorySeparatorChar);
        return parts is [.., var repository, "snapshots", _] && repository.StartsWith(prefix, StringComparison.Ordinal)
            ? repository[prefix.Length..].Replace("--", "/", StringComparison.Ordinal)
            : Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(GgufFolder.Target(folder) ?? folder)));
    }

    private static string Fetch(string model, HubFilter filter, Func<string, bool> isEnough, IHubListener? listener, CancellationToken stop)
    {
        var settings = HubSettings.FromEnvironment();
        var (name, revision) = Split(model);
        if (HubDownload.Find(settings, name, revision) is { } here && isEnough(here))
        {
            return here;
        }

        try
        {
            return HubDownload.Fetch(settings, name, revision, filter, listener, stop).GetAwaiter().GetResult();
        }
        catch (Exception error) when (error is InvalidDataException or UnauthorizedAccessException or IOException)
        {
            throw new InvalidDataException($"there is no folder {model} here, and as a model on the Hub: {error.Message}", error);
        }
    }

    private static (string Name, string Revision) Split(string model) =>
        model.IndexOf('@', StringComparison.Ordinal) is > 0 and var at ? (model[..at], model[(at + 1)..]) : (model, MainRevision);

    // A copy that another program began, or that has other files, is completed.
    private static bool IsWhole(string folder)
    {
        try
        {
            using var weights = ModelFolder.Open(folder).OpenWeights();
            return true;
        }
        catch (Exception error) when (error is IOException or InvalidDataException)
        {
            return false;
        }
    }
}
