namespace OpenWeights.Tune.Torch;

/// <summary>A part of one of several arrays.</summary>
/// <param name="Number">The part's number among all.</param>
/// <param name="Array">Which array it is of.</param>
/// <param name="Start">Its first element.</param>
/// <param name="Count">Its number of elements.</param>
internal readonly record struct ArrayPart(int Number, int Array, long Start, int Count);
