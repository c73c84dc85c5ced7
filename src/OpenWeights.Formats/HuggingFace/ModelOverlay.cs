using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.HuggingFace;

/// <summary>
/// A model folder with some other small files, such as those of a tokenizer with more tokens: a folder in the user's cache whose other files are links
/// to the model's.
/// </summary>
internal static class ModelOverlay
{
    /// <summary>The name of the file that says which folder is under it.</summary>
    public const string PointerName = "overlay.json";

    /// <summary>Makes the folder, unless it is there.</summary>
    /// <param name="model">The model's folder.</param>
    /// <param name="files">The other files, by name.</param>
    /// <returns>The folder.</returns>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static string Write(string model, IReadOnlyDictionary<string, string> files)
    {
        ArgumentNullException.ThrowIfNull(files);
        model = Path.GetFullPath(model);
        var key = new StringBuilder(model);
        foreach (var file in new DirectoryInfo(model).EnumerateFiles().OrderBy(static f => f.Name, StringComparer.Ordinal))
        {
            var real = FileLinks.File(file.FullName);
            _ = key.Append('\n').Append(file.Name).Append(' ').Append(real.Length).Append(' ').Append(real.LastWriteTimeUtc.Ticks);
        }

        foreach (var (name, text) in files.OrderBy(static f => f.Key, StringComparer.Ordinal))
        {
            _ = key.Append('\n').Append(name).Append('\n').Append(text);
        }

        var hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(key.ToString())))[..12];
        var folder = Path.Combine(GgufFolder.CacheRoot(), "overlays", $"{Path.GetFileName(Path.TrimEndingDirectorySeparator(model))}-{hash}");
        if (!File.Exists(Path.Combine(folder, PointerName)))
        {
            AtomicFolder.Write(folder, work => Fill(model, files, work), replace: true);
        }

        return folder;
    }

    /// <summary>The model folder under an overlay; null for a folder that is none.</summary>
    /// <param name="folder">The folder.</param>
    public static string? Target(string folder)
    {
        var pointer = Path.Combine(folder, PointerName);
        return File.Exists(pointer) ? JsonFile.ReadObject(pointer)["folder"]?.GetValue<string>() : null;
    }

    private static void Fill(string model, IReadOnlyDictionary<string, string> files, string work)
    {
        foreach (var entry in new DirectoryInfo(model).EnumerateFileSystemInfos().Where(e => !files.ContainsKey(e.Name) && e.Name != PointerName && !e.Name.StartsWith('.')))
        {
            Link(entry, Path.Combine(work, entry.Name));
        }

        foreach (var (name, text) in files)
        {
            AtomicFile.WriteText(Path.Combine(work, name), text);
        }

        AtomicFile.WriteText(Path.Combine(work, PointerName), new JsonObject { ["folder"] = model }.ToJsonString() + "\n");
    }

    private static void Link(FileSystemInfo entry, string path)
    {
        var target = (entry.ResolveLinkTarget(returnFinalTarget: true) ?? entry).FullName;
        try
        {
            _ = entry is DirectoryInfo ? Directory.CreateSymbolicLink(path, target) : File.CreateSymbolicLink(path, target);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException or PlatformNotSupportedException && entry is FileInfo)
        {
            // Where links are not allowed, as on Windows without its developer mode.
            File.Copy(target, path);
        }
    }
}
