using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf;

/// <summary>
/// A GGUF file as a model folder: its settings and its tokenizer are written, as Hugging Face's small files, into a folder of the
/// user's cache, with a pointer to the file, whose weights stay where they are.
/// </summary>
public static class GgufFolder
{
    /// <summary>The name of the file that says where a folder's weights are.</summary>
    public const string PointerName = "gguf.json";

    private const string Version = "3";

    // Folders outside the cache that this process wrote itself: their pointers may be followed.
    private static readonly ConcurrentDictionary<string, bool> Unpacked = new(StringComparer.Ordinal);

    private static readonly string[] EndNames = ["eos", "eot", "eom"];

    /// <summary>Writes the folder, unless it is there.</summary>
    /// <param name="path">The GGUF file.</param>
    /// <returns>The folder.</returns>
    /// <exception cref="InvalidDataException">The file's model or tokenizer cannot be read.</exception>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static string Unpack(string path) => Unpack(path, "", PointerName, Unpack);

    /// <summary>Writes the tokenizer and the chat template of a file alone, of whatever architecture it is, unless they are there.</summary>
    /// <param name="path">The GGUF file.</param>
    /// <returns>The folder.</returns>
    /// <exception cref="InvalidDataException">The file has no tokenizer, or one that cannot be read.</exception>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static string UnpackTokenizer(string path) => Unpack(path, "-tokenizer", "tokenizer_config.json", static (file, folder) =>
    {
        using var opened = GgufFile.Open(file);
        GgufTokenizer.Write(opened.Metadata, folder);
        if (!File.Exists(Path.Combine(folder, "tokenizer_config.json")))
        {
            throw new InvalidDataException($"{file}: there is no tokenizer in this file");
        }
    });

    private static string Unpack(string path, string suffix, string written, Action<string, string> write)
    {
        var info = FileLinks.File(Path.GetFullPath(path));
        var key = string.Create(CultureInfo.InvariantCulture, $"{Version}\n{Path.GetFullPath(path)}\n{info.Length}\n{info.LastWriteTimeUtc.Ticks}");
        var hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(key)))[..12];
        var folder = Path.Combine(CacheRoot(), "gguf", $"{Path.GetFileNameWithoutExtension(path)}-{hash}{suffix}");
        if (File.Exists(Path.Combine(folder, written)))
        {
            return folder;
        }

        AtomicFolder.Write(folder, work => write(path, work), replace: true);
        return folder;
    }

    /// <summary>Writes the files into a folder.</summary>
    /// <param name="path">The GGUF file.</param>
    /// <param name="folder">The folder, which exists.</param>
    /// <exception cref="InvalidDataException">The file's model or tokenizer cannot be read.</exception>
    public static void Unpack(string path, string folder)
    {
        using var file = GgufFile.Open(path);
        Write(file, GgufFamilies.Of(file).ReadSettings(file), Path.GetFullPath(path), folder);
        Unpacked[FullPath(folder)] = true;
    }

    /// <summary>The GGUF file that a folder points to; null if it points to none. Only folders that this program wrote into its cache, or in
    /// this process, are followed: the pointer in a folder from elsewhere could name any file of the machine.</summary>
    /// <param name="folder">The folder.</param>
    /// <exception cref="InvalidDataException">The pointer names no file, or is in a folder that the program did not write.</exception>
    public static string? Target(string folder)
    {
        var pointer = Path.Combine(folder, PointerName);
        if (!File.Exists(pointer))
        {
            return null;
        }

        var full = FullPath(folder);
        if (!Unpacked.ContainsKey(full) && !full.StartsWith(FullPath(Path.Combine(CacheRoot(), "gguf")) + Path.DirectorySeparatorChar, StringComparison.Ordinal))
        {
            throw new InvalidDataException($"{pointer} names a GGUF file, which is only followed in the program's own cache; give the GGUF file itself as the model");
        }

        return JsonFile.ReadObject(pointer)["file"] is JsonValue file && file.GetValueKind() == JsonValueKind.String
            ? file.GetValue<string>()
            : throw new InvalidDataException($"{pointer} does not name a file; delete the folder, which is written again");
    }

    private static void Write(GgufFile file, JsonObject config, string path, string folder)
    {
        void Save(string name, JsonObject json) => AtomicFile.WriteText(Path.Combine(folder, name), PythonJson.Serialize(json, indent: 2, sortKeys: false) + "\n");
        var metadata = file.Metadata;
        config["bos_token_id"] = GgufTokenizer.Id(metadata, "bos");
        config["eos_token_id"] = GgufTokenizer.Id(metadata, "eos");
        Save(ModelFolder.ConfigName, config);
        int[] ends = [.. EndNames.Select(name => GgufTokenizer.Id(metadata, name)).OfType<int>().Distinct()];
        if (ends.Length > 0)
        {
            Save("generation_config.json", new JsonObject { ["bos_token_id"] = GgufTokenizer.Id(metadata, "bos"), ["eos_token_id"] = new JsonArray([.. ends.Select(static e => (JsonNode)e)]) });
        }

        GgufTokenizer.Write(metadata, folder);
        Save(PointerName, new JsonObject { ["file"] = path });
    }

    private static string FullPath(string folder) => Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));

    /// <summary>The folder of what the program keeps for its user.</summary>
    internal static string CacheRoot()
    {
        var cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        var root = !string.IsNullOrEmpty(cache) ? cache
            : OperatingSystem.IsWindows() ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return Path.Combine(root, "openweights-tune");
    }
}
