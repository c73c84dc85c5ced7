namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>Ranges of numbers that are written with a fixed number of digits.</summary>
internal static class DigitRanges
{
    /// <summary>The expression of all numbers between two, both included.</summary>
    /// <param name="low">Digits of the smallest, the most significant first.</param>
    /// <param name="high">Digits of the largest; as many.</param>
    /// <param name="largest">The largest digit of each place.</param>
    /// <param name="digit">The expression of the digits of a place, from one to another.</param>
    internal static GrammarNode Between(int[] low, int[] high, int[] largest, Func<int, int, int, GrammarNode> digit) => From(low, high, 0, largest, digit);

    private static GrammarNode From(int[] low, int[] high, int at, int[] largest, Func<int, int, int, GrammarNode> digit)
    {
        if (at == low.Length)
        {
            return GrammarNode.Empty;
        }

        if (low[at] == high[at])
        {
            return GrammarNode.Row(digit(at, low[at], low[at]), From(low, high, at + 1, largest, digit));
        }

        var (from, to, choices) = (low[at], high[at], new List<GrammarNode>());
        if (low.Skip(at + 1).Any(static d => d != 0))
        {
            choices.Add(GrammarNode.Row(digit(at, from, from), From(low, largest, at + 1, largest, digit)));
            from++;
        }

        var part = !high.Skip(at + 1).SequenceEqual(largest.Skip(at + 1));
        to -= part ? 1 : 0;
        if (from <= to)
        {
            choices.Add(GrammarNode.Row([digit(at, from, to), .. Enumerable.Range(at + 1, low.Length - at - 1).Select(i => digit(i, 0, largest[i]))]));
        }

        if (part)
        {
            choices.Add(GrammarNode.Row(digit(at, high[at], high[at]), From(new int[low.Length], high, at + 1, largest, digit)));
        }

        return GrammarNode.AnyOf(choices);
    }
}
