namespace OpenWeights.Tokenizers;

/// <summary>What becomes of the delimiters of a split (huggingface/tokenizers, <c>SplitDelimiterBehavior</c>).</summary>
internal enum SplitBehavior
{
    /// <summary>Delimiters vanish.</summary>
    Removed,

    /// <summary>Each delimiter is a piece.</summary>
    Isolated,

    /// <summary>A delimiter ends the piece before it.</summary>
    MergedWithPrevious,

    /// <summary>A delimiter begins the piece after it.</summary>
    MergedWithNext,

    /// <summary>A run of delimiters is a piece.</summary>
    Contiguous,
}
