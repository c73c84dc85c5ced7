namespace OpenWeights.Tokenizers;

/// <summary>
/// What training needs of a tokenizer. <see cref="Tokenizer"/> implements it; implement it to train with a tokenizer of another
/// library.
/// </summary>
public interface ITokenizer
{
    /// <summary>The id of the token that ends a text, or null.</summary>
    int? EosToken { get; }

    /// <summary>The chat template (Jinja), or null.</summary>
    string? ChatTemplateText { get; }

    /// <summary>What messages about the chat template call it, such as the file it is from.</summary>
    string ChatTemplateName => "the chat template";

    /// <summary>Special tokens by the names that chat templates have for them (<c>bos_token</c>, <c>eos_token</c>, ...).</summary>
    IReadOnlyDictionary<string, string> SpecialTokens { get; }

    /// <summary>The chat template for a conversation; null for none.</summary>
    /// <param name="withTools">Whether the conversation has a list of tools.</param>
    string? ChatTemplateFor(bool withTools);

    /// <summary>Encodes a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="addSpecialTokens">Whether to add what the tokenizer puts around a text, such as BOS.</param>
    /// <returns>The ids.</returns>
    int[] Encode(string text, bool addSpecialTokens);

    /// <summary>Encodes a text, with the character offsets of each token.</summary>
    /// <param name="text">The text.</param>
    /// <param name="addSpecialTokens">As in <see cref="Encode"/>.</param>
    /// <param name="trimOffsets">Whether a token's range leaves out white space at its edges, if the tokenizer knows of such a thing.</param>
    /// <returns>The tokens with their ranges in UTF-16 units; those that are added have an empty range.</returns>
    IReadOnlyList<TokenSpan> EncodeWithOffsets(string text, bool addSpecialTokens, bool trimOffsets = false);

    /// <summary>Decodes tokens.</summary>
    /// <param name="ids">Their ids.</param>
    /// <param name="skipSpecialTokens">Whether to leave special tokens out.</param>
    string Decode(IEnumerable<int> ids, bool skipSpecialTokens);
}

/// <summary>A token with its character offsets in the input.</summary>
/// <param name="Id">The token's id.</param>
/// <param name="Start">The first UTF-16 unit of the input that the token stands for. A token that a template adds (such as BOS) stands for none: 0 to 0.</param>
/// <param name="End">The unit after the last one.</param>
public readonly record struct TokenSpan(int Id, int Start, int End);
