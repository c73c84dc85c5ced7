using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>Tokenizers of adapters that were trained with more tokens than their model has.</summary>
internal static class AdapterTokenizer
{
    private const string File = "tokenizer.json";

    /// <summary>The folder of an adapter's tokenizer, if it has more tokens than the model's; else null.</summary>
    /// <param name="adapter">The adapter's folder.</param>
    /// <param name="size">Number of tokens of the model's tokenizer.</param>
    internal static string? FolderOf(string adapter, int size) =>
        AdapterFolder.Find(adapter) is { } folder && System.IO.File.Exists(Path.Combine(folder, File)) && Tokenizer.Load(folder).VocabularySize > size ? folder : null;
}
