namespace OpenWeights.Formats.Json;

/// <summary>
/// Compares strings by Unicode code points, which is the order of their UTF-8 bytes: how Python sorts keys and how Rust sorts names.
/// The ordinal order of .NET compares UTF-16 units and differs where characters beyond U+FFFF meet U+E000 to U+FFFF.
/// </summary>
internal sealed class CodePointOrder : IComparer<string>
{
    public static readonly CodePointOrder Instance = new();

    public int Compare(string? x, string? y)
    {
        if (x is null || y is null)
        {
            return Comparer<object>.Default.Compare(x, y);
        }

        var common = x.AsSpan().CommonPrefixLength(y);
        return common == x.Length || common == y.Length
            ? x.Length.CompareTo(y.Length)
            : Rank(x[common]).CompareTo(Rank(y[common]));
    }

    private static int Rank(char unit) => char.IsSurrogate(unit) ? unit + 0x10000 : unit;
}
