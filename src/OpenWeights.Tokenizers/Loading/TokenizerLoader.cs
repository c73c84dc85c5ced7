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
                var (words, known) = VocabAndMergesLoader.Read(file[..^name.Length] + "vocab.json", file[..^name.Length] + "merges.txt", settings);
                return (words with { PostProcessor = WithEnds(words, known) }, known);
            }
        }

        var bytes = File.ReadAllBytes(file);
        if (IsJson(bytes))
        {
            var parts = TokenizerJsonReader.Read(file, bytes, settings);
            return (parts with { PostProcessor = WithEnds(parts, settings) }, settings);
        }

        if (Path.GetExtension(file).Equals(".json", StringComparison.OrdinalIgnoreCase))
        {
            throw new InvalidDataException($"{file}: {(bytes.Length == 0 ? "the file is empty" : "this is no JSON object")}; download or copy it again.");
        }

        return TiktokenLoader.Recognizes(bytes) ? TiktokenLoader.Read(file, bytes, settings) : SentencePieceLoader.Read(file, bytes, settings);
    }

    // As transformers 5 does: where the settings name either of the two keys, they alone say what is put around a text.
    private static PostProcessor WithEnds(TokenizerParts parts, TokenizerSettings settings)
    {
        if (settings is { AddBosToken: null, AddEosToken: null })
        {
            return parts.PostProcessor;
        }

        int? Id(string? token) => token is null ? null : parts.AddedTokens.FirstOrDefault(t => t.Content == token)?.Id ?? (parts.Model.Vocabulary.Find(token) is >= 0 and var id ? id : null);
        var (bos, eos) = (settings.AddBosToken == true ? Id(settings.BosToken) : null, settings.AddEosToken == true ? Id(settings.EosToken) : null);
        return new PostProcessor([.. bos is null ? [] : new[] { bos }, null, .. eos is null ? [] : new[] { eos }], parts.PostProcessor.Trim);
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
