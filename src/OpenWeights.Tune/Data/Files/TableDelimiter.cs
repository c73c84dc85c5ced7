using System.Text;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Detects the delimiter of a table; spreadsheets in many European locales use semicolons.</summary>
internal static class TableDelimiter
{
    private const int MaxBytes = 1 << 16;
    private static readonly char[] s_possible = [',', ';', '\t', '|'];

    /// <summary>
    /// The delimiter that gives the first line the most columns with known names, or else the most columns; a comma if none occurs.
    /// </summary>
    /// <param name="path">The file.</param>
    internal static char Of(string path)
    {
        using var stream = Decompression.Open(path);
        var start = new byte[MaxBytes];
        var line = FirstLine(Encoding.Latin1.GetString(start, 0, stream.ReadAtLeast(start, MaxBytes, throwOnEndOfStream: false)));
        return s_possible.OrderByDescending(c => Known(line, c)).ThenByDescending(c => Cells(line, c).Count).First();
    }

    private static int Known(string line, char separator) =>
        Cells(line, separator).Count(static c => RowFields.Names.Contains(c.Trim().Trim('"').Trim(), StringComparer.OrdinalIgnoreCase));

    private static string FirstLine(string text)
    {
        var quoted = false;
        for (var i = 0; i < text.Length; i++)
        {
            quoted ^= text[i] == '"';
            if (!quoted && text[i] is '\r' or '\n' && i > 0)
            {
                return text[..i];
            }
        }

        return text;
    }

    private static List<string> Cells(string line, char separator)
    {
        var (cells, quoted, begin) = (new List<string>(), false, 0);
        for (var i = 0; i < line.Length; i++)
        {
            quoted ^= line[i] == '"';
            if (!quoted && line[i] == separator)
            {
                cells.Add(line[begin..i]);
                begin = i + 1;
            }
        }

        cells.Add(line[begin..]);
        return cells;
    }
}
