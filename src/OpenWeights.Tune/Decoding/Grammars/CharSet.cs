namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>A set of characters (Unicode code points without surrogates), as ranges in order that do not touch.</summary>
internal sealed class CharSet : IEquatable<CharSet>
{
    internal const int Last = 0x10FFFF;

    private readonly (int Low, int High)[] _ranges;

    private CharSet((int Low, int High)[] ranges) => _ranges = ranges;

    /// <summary>Every character.</summary>
    internal static CharSet All { get; } = Of((0, Last));

    /// <summary>The ranges, both ends included.</summary>
    internal IReadOnlyList<(int Low, int High)> Ranges => _ranges;

    /// <summary>Whether it has no character.</summary>
    internal bool IsEmpty => _ranges.Length == 0;

    /// <summary>The set of some ranges, which may overlap.</summary>
    internal static CharSet Of(params IEnumerable<(int Low, int High)> ranges)
    {
        var made = new List<(int Low, int High)>();
        foreach (var (low, high) in ranges.SelectMany(WithoutSurrogates).OrderBy(static r => r.Item1))
        {
            if (made.Count > 0 && low <= made[^1].High + 1)
            {
                made[^1] = (made[^1].Low, Math.Max(made[^1].High, high));
            }
            else
            {
                made.Add((low, high));
            }
        }

        return new CharSet([.. made]);
    }

    /// <summary>The set of one character.</summary>
    internal static CharSet One(int character) => Of((character, character));

    /// <summary>The set of the characters of a text.</summary>
    internal static CharSet Any(string text) => Of(text.EnumerateRunes().Select(static r => (r.Value, r.Value)));

    /// <summary>The characters of either set.</summary>
    internal CharSet Or(CharSet other) => Of(_ranges.Concat(other._ranges));

    /// <summary>The characters of both sets.</summary>
    internal CharSet And(CharSet other) => Of(_ranges.SelectMany(a => other._ranges.Select(b => (Math.Max(a.Low, b.Low), Math.Min(a.High, b.High)))).Where(static r => r.Item1 <= r.Item2));

    /// <summary>The characters that are not in the set.</summary>
    internal CharSet Not()
    {
        var (made, from) = (new List<(int, int)>(), 0);
        foreach (var (low, high) in _ranges)
        {
            if (low > from)
            {
                made.Add((from, low - 1));
            }

            from = high + 1;
        }

        if (from <= Last)
        {
            made.Add((from, Last));
        }

        return Of(made);
    }

    /// <summary>Whether it has a character.</summary>
    internal bool Contains(int character) => Array.Exists(_ranges, r => r.Low <= character && character <= r.High);

    /// <summary>Parts of which every one of the sets is made up, and which do not overlap.</summary>
    internal static List<CharSet> Parts(IEnumerable<CharSet> sets)
    {
        var all = sets.Distinct().ToList();
        var starts = new SortedSet<int>(all.SelectMany(static s => s._ranges).SelectMany(static r => new[] { r.Low, r.High + 1 })).ToList();
        var bySets = new Dictionary<string, List<(int, int)>>(StringComparer.Ordinal);
        for (var i = 0; i + 1 < starts.Count; i++)
        {
            var key = string.Concat(all.Select(s => s.Contains(starts[i]) ? '1' : '0'));
            if (key.Contains('1', StringComparison.Ordinal))
            {
                if (!bySets.TryGetValue(key, out var ranges))
                {
                    bySets[key] = ranges = [];
                }

                ranges.Add((starts[i], starts[i + 1] - 1));
            }
        }

        return [.. bySets.Values.Select(static r => Of(r)).Where(static s => !s.IsEmpty)];
    }

    public bool Equals(CharSet? other) => other is not null && _ranges.AsSpan().SequenceEqual(other._ranges);

    public override bool Equals(object? obj) => Equals(obj as CharSet);

    public override int GetHashCode()
    {
        var hash = default(HashCode);
        foreach (var range in _ranges)
        {
            hash.Add(range);
        }

        return hash.ToHashCode();
    }

    private static IEnumerable<(int, int)> WithoutSurrogates((int Low, int High) range)
    {
        if (range.Low < 0xD800)
        {
            yield return (range.Low, Math.Min(range.High, 0xD7FF));
        }

        if (range.High > 0xDFFF)
        {
            yield return (Math.Max(range.Low, 0xE000), range.High);
        }
    }
}
