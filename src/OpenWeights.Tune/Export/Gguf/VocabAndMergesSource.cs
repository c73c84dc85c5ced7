using System.Text.Json;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Converts a vocab.json with its merges.txt (GPT-2's format).</summary>
internal static class VocabAndMergesSource
{
    private const string VersionLine = "#version";

    /// <summary>Reads the files; the tokenizer has already validated their kind.</summary>
    internal static GgufVocabulary Read(ModelFolder folder, string path, Tokenizer tokenizer)
    {
        var settingsPath = Path.Combine(folder.FolderPath, "tokenizer_config.json");
        var settings = new ConfigJson(File.Exists(settingsPath) ? JsonFile.ReadObject(settingsPath) : [], settingsPath);
        if (settings.Flag("add_prefix_space"))
        {
            throw settings.Error("add_prefix_space", "llama.cpp does not prepend a space for byte-level tokenizers.");
        }

        var kind = settings.Text("tokenizer_class") ?? folder.TextConfig["model_type"]?.ToString();
        var known = JsonFile.ReadObject(path).Select(static p => p.Value!.GetValueKind() == JsonValueKind.Number ? p.Value.GetValue<int>() : -1).ToHashSet();
        var vocabulary = new GgufVocabulary("gpt2", kind?.StartsWith("qwen", StringComparison.OrdinalIgnoreCase) == true ? "qwen2" : "gpt-2")
        {
            Merges = [.. File.ReadLines(Path.Combine(folder.FolderPath, "merges.txt")).Where(static (line, i) => line.Length > 0 && !(i == 0 && line.StartsWith(VersionLine, StringComparison.Ordinal)))],
        };
        for (var id = 0; id < tokenizer.VocabularySize; id++)
        {
            var token = tokenizer.IdToToken(id);
            var type = token is null ? VocabularySection.Unused
                : tokenizer.IsSpecial(id) ? VocabularySection.Control
                : known.Contains(id) ? VocabularySection.Normal
                : VocabularySection.UserDefined;
            vocabulary.Add(token ?? $"[PAD{id}]", 0, type);
        }

        return vocabulary;
    }
}
