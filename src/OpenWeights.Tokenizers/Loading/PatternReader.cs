namespace OpenWeights.Tokenizers;

/// <summary>Makes patterns from their JSON, <c>{"String": ...}</c> or <c>{"Regex": ...}</c>.</summary>
internal static class PatternReader
{
    /// <summary>Makes the pattern.</summary>
    public static TextPattern Read(JsonSection section)
    {
        var literal = section["String"];
        var expression = section["Regex"];
        if (literal.IsNull == expression.IsNull)
        {
            throw section.Error("must be {\"String\": ...} or {\"Regex\": ...}.");
        }

        if (expression.IsNull)
        {
            var text = literal.Text();
            return text.Length == 0 ? throw literal.Error("must not be empty.") : new LiteralPattern(text);
        }

        return (TextPattern?)KnownPatterns.Find(expression.Text()) ?? OnigurumaPattern.Parse(expression.Text(), expression.Error);
    }
}
