namespace OpenWeights.Tokenizers;

/// <summary>"Replace": puts a text in the place of every match of a pattern.</summary>
internal sealed class ReplaceNormalizer(TextPattern pattern, string content) : Normalizer
{
    public override bool Leaves(ReadOnlySpan<char> text) =>
        pattern is LiteralPattern { Literal.Length: > 0 } literal && !text.Contains(literal.Literal, StringComparison.Ordinal);

    public override void Write(in SourceText source, AlignedText output)
    {
        if (pattern is LiteralPattern { Literal.Length: 1 } single)
        {
            WriteReplaced(source, single.Literal[0], output);
            return;
        }

        var matches = new List<PatternMatch>();
        pattern.FindMatches(source.Chars, matches);
        foreach (var match in matches)
        {
            if (!match.IsMatch)
            {
                output.Append(source, match.Start, match.End - match.Start);
            }
            else if (match.End > match.Start)
            {
                // As in the reference, the new text stands for the last character that it replaces.
                var last = match.End - 1;
                var first = char.IsLowSurrogate(source.Chars[last]) && last > match.Start ? last - 1 : last;
                output.Append(content, source.InputStart(first), source.InputEnd(last));
            }
            else
            {
                // What is put between characters shares the range of the one before.
                var before = match.Start - 1;
                output.Append(content, before < 0 ? 0 : source.InputStart(before), before < 0 ? 0 : source.InputEnd(before));
            }
        }
    }

    private void WriteReplaced(in SourceText source, char searched, AlignedText output)
    {
        for (var at = 0; at < source.Chars.Length; at++)
        {
            var found = source.Chars[at..].IndexOf(searched);
            var plain = found < 0 ? source.Chars.Length - at : found;
            output.Append(source, at, plain);
            at += plain;
            if (at < source.Chars.Length)
            {
                output.Append(content, source.InputStart(at), source.InputEnd(at));
            }
        }
    }
}
