using OpenWeights.Formats.Files;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Hub;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Configuration;

/// <summary>
/// Resolves what users give as a model: a folder, a training run's folder, a GGUF file (opened as a folder), or a name on the Hugging Face
/// Hub.
/// </summary>
internal static partial class ModelPath
{
    private const string MainRevision = "main";

    // Prefix that marks a Hub name where a local folder could have the same name.
    private const string HubPrefix = "hub:";

    // Folder names that users commonly keep their own files in.
    private static readonly string[] s_folders = ["runs", "run", "checkpoints", "output", "outputs", "out", "results", "models", "data", "datasets", "weights", "tmp"];
    private static readonly string[] s_endings = [".gguf", ".safetensors", ".bin", ".json", ".yaml", ".yml", ".pt", ".pth"];

    /// <summary>
    /// Whether a text names a model on the Hub: ORG/NAME or ORG/NAME@REVISION that does not exist locally and does not look like a path,
    /// or any text that starts with hub:.
    /// </summary>
    /// <param name="model">The text.</param>
    /// <param name="folder">A second folder that a relative path may start from; null for the current folder only.</param>
    public static bool IsOnHub(string model, string? folder = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (Path.Exists(model))
        {
            return false;
        }

        var (name, revision) = Split(model);
        return HubName.IsName(name)
            && (model.StartsWith(HubPrefix, StringComparison.Ordinal) || !LooksLikePath(name, folder) || HubDownload.Find(HubSettings.FromEnvironment(), name, revision) is not null);
    }

    // A name has two parts; it is a path if it leads into an existing folder, into a folder that users commonly keep models in, or to a
    // file.
    private static bool LooksLikePath(string name, string? folder)
    {
        var first = name[..name.IndexOf('/', StringComparison.Ordinal)];
        return Directory.Exists(first) || (folder is not null && Directory.Exists(Path.Combine(folder, first))) || s_folders.Contains(first)
            || s_endings.Any(e => name.EndsWith(e, StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>Whether a model is on the Hub and not completely cached, so that reading it would download it.</summary>
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

    /// <summary>The folder of a Hub model in the local cache, complete or not; null if it is not cached.</summary>
    /// <param name="model">Name of the model.</param>
    public static string? Cached(string model)
    {
        var (name, revision) = Split(model);
        return HubName.IsName(name) && HubDownload.Find(HubSettings.FromEnvironment(), name, revision) is { } folder && Directory.Exists(folder) ? folder : null;
    }

    /// <summary>The folder to read a model from. A Hub model is downloaded unless a complete copy is cached.</summary>
    /// <param name="model">A folder, a GGUF file, or a name on the Hub.</param>
    /// <param name="listener">Receives download progress; null for none.</param>
    /// <param name="stop">Cancels a download.</param>
    /// <exception cref="InvalidDataException">The GGUF file cannot be read, or the Hub has no such model.</exception>
    /// <exception cref="IOException">The folder does not exist, or the Hub cannot be reached.</exception>
    public static string Resolve(string model, IHubListener? listener = null, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (!IsOnHub(model))
        {
            RequireTarget(model);
            return File.Exists(model) && GgufFile.IsGguf(model) ? GgufFolder.Unpack(model) : Local(model);
        }

        return Fetch(model, HubFilter.Model, IsWhole, listener, stop);
    }

    /// <summary>
    /// The folder to read a model's config and tokenizer from. For a Hub model only these files are downloaded, not the weights.
    /// </summary>
    /// <param name="model">A folder, a config.json, a GGUF file, or a name on the Hub.</param>
    /// <param name="listener">Receives download progress; null for none.</param>
    /// <param name="stop">Cancels a download.</param>
    /// <exception cref="InvalidDataException">The GGUF file cannot be read, or the Hub has no such model.</exception>
    /// <exception cref="IOException">The Hub cannot be reached.</exception>
    public static string ResolveSettings(string model, IHubListener? listener = null, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        RequireTarget(model);
        if (File.Exists(model) && Path.GetFileName(model) == ModelFolder.ConfigName)
        {
            return Path.GetDirectoryName(Path.GetFullPath(model))!;
        }

        return IsOnHub(model) ? Fetch(model, HubFilter.Settings, ModelFolder.IsModel, listener, stop) : Resolve(model, listener, stop);
    }

    /// <summary>
    /// The folder or file to read a tokenizer and its chat template from: like <see cref="Resolve"/>, but the architecture of a GGUF file
    /// need not be supported, and no weights of a Hub model are downloaded.
    /// </summary>
    /// <param name="tokenizer">A folder, a tokenizer file, a GGUF file, or a name on the Hub.</param>
    /// <param name="listener">Receives download progress; null for none.</param>
    /// <param name="stop">Cancels a download.</param>
    /// <exception cref="InvalidDataException">The GGUF file has no tokenizer that can be read, or the Hub has no such model.</exception>
    /// <exception cref="IOException">The Hub cannot be reached.</exception>
    public static string ResolveTokenizer(string tokenizer, IHubListener? listener = null, CancellationToken stop = default)
    {
        RequireTarget(tokenizer);
        return File.Exists(tokenizer) && GgufFile.IsGguf(tokenizer) ? GgufFolder.UnpackTokenizer(tokenizer)
            : IsOnHub(tokenizer) ? Fetch(tokenizer, HubFilter.Settings, Tokenizer.IsIn, listener, stop)
            : Resolve(tokenizer, listener, stop);
    }

    /// <summary>The base and the adapter of a training run's folder, or of a checkpoint or the adapter in it, where the run trained an adapter; else what
    /// was given and null.</summary>
    /// <param name="model">The path given as a model.</param>
    /// <exception cref="InvalidDataException">The run's config does not name its base model.</exception>
    public static (string Model, string? Adapter) WithAdapter(string model)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (!Directory.Exists(model) || ModelFolder.Find(model) is not null || AdapterFolder.Find(model) is not { } adapter || RunConfigOf(model) is not { } config)
        {
            return (model, null);
        }

        try
        {
            return (RunConfigFile.Read(config, []).Model.Path, adapter);
        }
        catch (ConfigException e)
        {
            throw new InvalidDataException($"{model} is a run folder, but its config cannot be read: {e.Message}", e);
        }
    }

    // A run's folder has it, its adapter lies one level below, and those of a checkpoint up to three. An adapter alone may lie beside a
    // config.yaml of something else.
    private static string? RunConfigOf(string folder)
    {
        var alone = AdapterFolder.IsAdapter(folder);
        return new[] { "", "..", Path.Combine("..", ".."), Path.Combine("..", "..", "..") }.Select(up => Path.Combine(folder, up))
            .Where(f => !alone || File.Exists(Path.Combine(f, "manifest.json"))).Select(static f => Path.Combine(f, "config.yaml")).FirstOrDefault(File.Exists);
    }

    private static void RequireTarget(string model)
    {
        if (FileLinks.BrokenTarget(model) is { } nowhere)
        {
            throw new FileNotFoundException($"{model}: this link leads to {nowhere}, which is not there.", model);
        }
    }

    private static string Local(string model)
    {
        if (!Path.Exists(model))
        {
            var hint = HubName.IsName(Split(model).Name) ? $" (To name a model on the Hub, write {HubPrefix}{model}.)" : "";
            throw new DirectoryNotFoundException($"{model}: no such folder or file.{Nearest(model)}{hint}");
        }

        if (File.Exists(model) && Path.GetExtension(model).Equals(".gguf", StringComparison.OrdinalIgnoreCase))
        {
            throw new InvalidDataException($"{model}: this is no GGUF file, which begins with the letters GGUF; download or copy it again.");
        }

        if (ModelFolder.Find(model) is { } folder)
        {
            return folder;
        }

        return !AdapterFolder.IsAdapter(model) && AdapterFolder.Find(model) is not null
            ? throw new InvalidDataException($"{model} is a run that trained an adapter; give its base model as the model, and this run as the adapter")
            : model;
    }

    private static string Nearest(string path)
    {
        var whole = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        return Path.GetDirectoryName(whole) is { } above && Directory.Exists(above)
            && Spelling.Nearest(Path.GetFileName(whole), Directory.EnumerateFileSystemEntries(above).Select(static e => Path.GetFileName(e))) is { } nearest
            ? $" Did you mean {Path.Combine(Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(path)) ?? "", nearest)}?"
            : "";
    }

    /// <summary>
    /// A question that suggests the cached Hub model with the closest name, with a leading space; empty if none is close.
    /// </summary>
    /// <param name="model">A name on the Hub.</param>
    public static string NearestCached(string model) => Spelling.DidYouMean(Split(model).Name, HubDownload.Names(HubSettings.FromEnvironment()).Where(n => n != Split(model).Name));

    /// <summary>
    /// A name for the model in a folder that is meaningful on other machines: its Hub name for a cached Hub model, otherwise the file name
    /// of the GGUF file or the last part of the folder's path. Shared files must not contain local paths.
    /// </summary>
    /// <param name="folder">The folder.</param>
    public static string NameOf(string folder)
    {
        const string prefix = "models--";
        folder = ModelOverlay.Target(folder) ?? folder;
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

        return Ask(model, () => HubDownload.Fetch(settings, name, revision, filter, listener, stop));
    }

    private static string Ask(string model, Func<Task<string>> fetch)
    {
        try
        {
            return fetch().GetAwaiter().GetResult();
        }
        catch (Exception error) when (error is InvalidDataException or UnauthorizedAccessException or IOException)
        {
            var message = $"no folder {model} exists, and it could not be loaded from the Hub: {error.Message.TrimEnd('.')}.{NearestCached(model)}";
            throw error is InvalidDataException or HubRefusedException ? new InvalidDataException(message, error) : new IOException(message, error);
        }
    }

    private static (string Name, string Revision) Split(string text)
    {
        var model = text.StartsWith(HubPrefix, StringComparison.Ordinal) ? text[HubPrefix.Length..] : text;
        return model.IndexOf('@', StringComparison.Ordinal) is > 0 and var at ? (model[..at], model[(at + 1)..]) : (model, MainRevision);
    }

    // A copy that another program left incomplete, or that has other files, is completed.
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
