namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>The <c>start:stop:step</c> of a subscription; each may be None.</summary>
internal sealed record PySlice(object? Start, object? Stop, object? Step);
