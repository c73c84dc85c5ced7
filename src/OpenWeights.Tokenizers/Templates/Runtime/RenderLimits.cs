namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>
/// What one render may spend. A conversation of a thousand messages takes well under a hundredth of it; a template that runs away
/// is stopped within seconds.
/// </summary>
internal static class RenderLimits
{
    /// <summary>Statements executed and items gone through.</summary>
    public const long Steps = 5_000_000;

    /// <summary>Characters (UTF-16) copied, counting every intermediate string.</summary>
    public const long CopiedCharacters = 400_000_000;

    /// <summary>The longest string.</summary>
    public const int TextLength = 1 << 26;

    /// <summary>Macros and recursive loops inside each other.</summary>
    public const int CallDepth = 200;

    /// <summary>The largest integer, in bits.</summary>
    public const int IntegerBits = 1 << 14;

    /// <summary>Statements and expressions inside each other in a template's text.</summary>
    public const int SyntaxDepth = 120;

    /// <summary>The height of the tree of one expression, which chains of operators grow too.</summary>
    public const int ExpressionHeight = 600;
}
