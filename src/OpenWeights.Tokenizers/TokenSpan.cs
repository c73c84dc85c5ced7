namespace OpenWeights.Tokenizers;

/// <summary>A token and the characters of the input that it stands for.</summary>
/// <param name="Id">The token's id.</param>
/// <param name="Start">The first UTF-16 unit of the input that the token stands for. A token that a template adds (such as BOS) stands for none: 0 to 0.</param>
/// <param name="End">The unit after the last one.</param>
public readonly record struct TokenSpan(int Id, int Start, int End);
