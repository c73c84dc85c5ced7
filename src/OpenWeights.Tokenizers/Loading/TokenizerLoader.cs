using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Finds out what kind of tokenizer a folder or file holds, and reads it.</summary>
internal static class TokenizerLoader
{
    private static readonly string[] s_files = ["tokenizer.json", "tokenizer.model", "vocab.json"];

    /// <summary>Loads a tokenizer.</summary>
    public static Tokenizer Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var file = Directory.Exists(path) ? FindIn(path) : path;
        if (!File.Exists(file))
        {
            throw new FileNotFoundException($"{path}: there is no such file or folder.", path);
        }

        var settings = SettingsReader.Read(Path.GetDirectoryName(Path.GetFullPath(file))!);
        var (parts, completed) = Read(file, settings);
        return new Tokenizer(parts, completed);
    }

    private static (TokenizerParts Parts, TokenizerSettings Settings) Read(string file, TokenizerSettings settings)
    {
        foreach (var name in new[] { "vocab.json", "merges.txt" })
        {
            if (file.EndsWith(name, StringComparison.Ordinal))
            {
                return VocabAndMergesLoader.Read(file[..^name.Length] + "vocab.json", file[..^name.Length] + "merges.txt", settings);
            }
        }

        var bytes = File.ReadAllBytes(file);
        if (IsJson(bytes))
        {
            return (TokenizerJsonReader.Read(file, bytes, settings), settings);
        }

        return TiktokenLoader.Recognizes(bytes) ? TiktokenLoader.Read(file, bytes, settings) : SentencePieceLoader.Read(file, bytes, settings);
    }

    private static bool IsJson(byte[] bytes)
    {
        var text = bytes.AsSpan(bytes.AsSpan().StartsWith(Encoding.UTF8.Preamble) ? 3 : 0).TrimStart(" \t\r\n"u8);
        return text.StartsWith("{"u8);
    }

    /// <summary>Whether a folder holds a tokenizer.</summary>
    public static bool HasTokenizer(string folder) => Find(folder) is not null;

    private static string FindIn(string folder) =>
        Find(folder) ?? throw new FileNotFoundException($"{folder}: the folder has no tokenizer: no tokenizer.json, tokenizer.model, or vocab.json with merges.txt.", folder);

    private static string? Find(string folder) =>
        s_files.Select(name => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
}
