namespace OpenWeights.Tune.Configuration;

/// <summary>A setting that is a text or a list of texts, which may mean different things.</summary>
/// <param name="Values">The text, or the texts.</param>
/// <param name="IsList">Whether the file gave a list.</param>
public sealed record TextOrList(IReadOnlyList<string> Values, bool IsList)
{
    /// <summary>Whether modules are named: by a list, or by one bare name, which is a list of one and no pattern.</summary>
    internal bool IsNames => IsList || Values[0].All(static c => char.IsAsciiLetterOrDigit(c) || c == '_');
}
