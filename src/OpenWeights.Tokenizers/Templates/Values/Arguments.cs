namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>What a call passes.</summary>
/// <param name="Positional">By position.</param>
/// <param name="Keywords">By name, in the order of the call.</param>
internal readonly record struct Arguments(object?[] Positional, KeyValuePair<string, object?>[] Keywords)
{
    /// <summary>The same with a value before the first: the subject of a filter or test.</summary>
    public Arguments WithFirst(object? value) => this with { Positional = [value, .. Positional] };
}
