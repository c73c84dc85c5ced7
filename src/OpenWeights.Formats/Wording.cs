using System.Globalization;
using System.Text;

namespace OpenWeights.Formats;

/// <summary>How names, counts and lists read inside an error's sentence.</summary>
internal static class Wording
{
    private const int LongestName = 200;
    private const int MaxListed = 8;

    /// <summary>Advice for a damaged file.</summary>
    public const string DamagedAdvice = "the file is damaged: download or copy it again";

    /// <summary>A name in quotes; control characters are spelled out and a very long name is shortened, since it may come from a
    /// damaged file.</summary>
    public static string Quote(string name)
    {
        var text = new StringBuilder("\"");
        foreach (var rune in name.EnumerateRunes())
        {
            if (text.Length > LongestName)
            {
                return text.Append(CultureInfo.InvariantCulture, $"…\" ({name.Length} characters)").ToString();
            }

            text.Append(Rune.IsControl(rune) ? $"\\u{rune.Value:x4}" : rune.ToString());
        }

        return text.Append('"').ToString();
    }

    /// <summary>A shape as written in a header: <c>[512,64]</c>.</summary>
    public static string Shape(IReadOnlyList<long> shape) =>
        shape.Count <= LongestName
            ? $"[{string.Join(',', shape)}]"
            : $"[{string.Join(',', shape.Take(MaxListed))},…] ({shape.Count} dimensions)";

    /// <summary>A list of names in which only the first few are spelled out.</summary>
    public static string List(IReadOnlyCollection<string> names)
    {
        var listed = string.Join(", ", names.Take(MaxListed));
        return names.Count > MaxListed ? $"{listed} and {names.Count - MaxListed} more" : listed;
    }

    /// <summary>A number of bytes, exact below 1 MiB and in MiB or GiB above.</summary>
    public static string Bytes(long count) => count switch
    {
        1 => "1 byte",
        < 1L << 20 => string.Create(CultureInfo.InvariantCulture, $"{count} bytes"),
        < 1L << 30 => string.Create(CultureInfo.InvariantCulture, $"{count / (double)(1L << 20):0.0} MiB"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{count / (double)(1L << 30):0.0} GiB"),
    };
}
