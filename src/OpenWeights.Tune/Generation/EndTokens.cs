using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Generation;

/// <summary>The tokens that end a text.</summary>
public static class EndTokens
{
    /// <summary>Those that the model's configs declare and the tokenizer's own.</summary>
    /// <param name="folder">The model's folder.</param>
    /// <param name="tokenizer">Its tokenizer.</param>
    public static IReadOnlyList<int> Of(ModelFolder folder, ITokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(tokenizer);
        return [.. folder.EosTokenIds.Concat(tokenizer.EosToken is { } end ? [end] : []).Distinct()];
    }
}
