namespace OpenWeights.Tune.Configuration;

/// <summary>A setting that is a text or a list of texts, which may mean different things.</summary>
/// <param name="Values">The text, or the texts.</param>
/// <param name="IsList">Whether the file gave a list.</param>
public sealed record TextOrList(IReadOnlyList<string> Values, bool IsList);
