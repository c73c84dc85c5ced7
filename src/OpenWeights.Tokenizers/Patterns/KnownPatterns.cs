namespace OpenWeights.Tokenizers;

/// <summary>The split patterns of widely used models, which are run by hand-written scanners.</summary>
internal static class KnownPatterns
{
    /// <summary>The scanner for an expression, or null.</summary>
    public static TilingPattern? Find(string expression) => expression switch
    {
        Gpt2Pattern.Expression => new Gpt2Pattern(),
        Cl100kPattern.Llama3 => new Cl100kPattern(3),
        Cl100kPattern.Qwen2 => new Cl100kPattern(1),
        _ => null,
    };
}
