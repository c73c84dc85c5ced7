using System.Globalization;
using System.Text;
using CsvHelper;
using CsvHelper.Configuration;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Reads CSV and TSV (RFC 4180: quoted cells may hold separators, line ends and doubled quotes), the first line naming the columns.</summary>
internal static class TableReader
{
    private const int MostColumns = 10_000;

    /// <summary>The rows, each with the line that it begins at.</summary>
    /// <exception cref="InvalidDataException">The header is no header.</exception>
    internal static IEnumerable<RawRow> Read(Stream stream, string path, char separator)
    {
        string? problem = null;
        var configuration = new CsvConfiguration(CultureInfo.InvariantCulture)
        {
            Delimiter = separator.ToString(),
            HasHeaderRecord = false,
            BadDataFound = _ => problem = "a quote stands where none may be; a cell with quotes in it is written in quotes, and its own quotes twice.",
            MaxFieldSize = LineReader.LongestRow,
        };

        // Bytes as characters one to one: separators and quotes are ASCII, and what is no UTF-8 is told of its own cell.
        using var reader = new StreamReader(stream, Encoding.Latin1, detectEncodingFromByteOrderMarks: false, bufferSize: 1 << 16);
        using var parser = new CsvParser(reader, configuration);
        string[]? header = null;
        for (var line = 1L; Next(parser, path, line); line = parser.RawRow + 1)
        {
            var cells = parser.Record!;
            if (header is null)
            {
                header = Header(cells, path);
            }
            else
            {
                // A quote that is never closed swallows the rest of the file; the last character of the last cell tells.
                var open = problem is null && IsOpen(parser.RawRecord) ? "a quote is opened in this row and never closed." : problem;
                yield return new RawRow(new RowPlace(path, line, RowUnit.Line), new CellContent(header, cells, open));
            }

            problem = null;
        }
    }

    private static bool Next(CsvParser parser, string path, long line)
    {
        try
        {
            return parser.Read();
        }
        catch (CsvHelperException e)
        {
            throw new InvalidDataException($"{path}:{line}: the table cannot be read on from here: {e.Message.Split('\n')[0].TrimEnd('.')}.", e);
        }
    }

    private static bool IsOpen(string record) => (record.AsSpan().Count('"') & 1) != 0;

    private static string[] Header(string[] cells, string path)
    {
        if (cells.Length > MostColumns)
        {
            throw new InvalidDataException($"{path}:1: the header has {cells.Length} columns; a table of rows to train on has a few. Is the separator right?");
        }

        if (cells[0].StartsWith("\u00ef\u00bb\u00bf", StringComparison.Ordinal))
        {
            cells[0] = cells[0][3..].Trim('"');
        }

        var names = cells.Select((c, i) => Name(c, i, path)).ToArray();
        var twice = names.GroupBy(static n => n).FirstOrDefault(static g => g.Count() > 1);
        return twice is null ? names : throw new InvalidDataException($"{path}:1: the column \"{twice.Key}\" is there {twice.Count()} times.");
    }

    private static string Name(string cell, int index, string path)
    {
        try
        {
            return CellContent.Text(cell, $"column {index + 1}").Trim();
        }
        catch (InvalidDataException e)
        {
            throw new InvalidDataException($"{path}:1: {e.Message}", e);
        }
    }
}
