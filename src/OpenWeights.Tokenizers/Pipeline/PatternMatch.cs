namespace OpenWeights.Tokenizers;

/// <summary>A range of a piece, and whether the pattern matched it or it lies between matches.</summary>
internal readonly record struct PatternMatch(int Start, int End, bool IsMatch);
