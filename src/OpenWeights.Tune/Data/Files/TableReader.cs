using CsvHelper;

namespace OpenWeights.Tune.Data.Files;

/// <summary>
/// Reads CSV and TSV (RFC 4180: quoted cells may contain delimiters, line breaks and doubled quotes); the first line names the columns.
/// </summary>
internal static class TableReader
{
    private const int MaxColumns = 10_000;

    /// <summary>The rows, each with the number of its first line.</summary>
    /// <exception cref="InvalidDataException">The header is invalid, or a row is too long.</exception>
    internal static IEnumerable<RawRow> Read(Stream stream, string path, char separator)
    {
        CsvMalformedRecord? malformed = null;
        using var reader = CsvReader.Create(stream, new CsvReaderOptions
        {
            Separator = separator,
            HasHeader = false,
            TrimWhitespace = false,
            TrackLineNumbers = true,
            MaxRecordSize = LineReader.LongestRow,
            OnMalformedRecord = record => malformed = record,
        }, leaveOpen: true);
        string[]? header = null;
        while (Next(reader, path))
        {
            var line = reader.LineNumber;
            if (header is null)
            {
                header = Header(Cells(reader), path);
            }
            else
            {
                var problem = malformed is { } found && found.LineNumber == line ? Problem(found.Reason) : null;
                yield return new RawRow(new RowPlace(path, line, RowUnit.Line), new CellContent(header, Cells(reader), problem));
            }
        }
    }

    private static bool Next(CsvReader reader, string path)
    {
        try
        {
            return reader.Read();
        }
        catch (CsvFormatException e)
        {
            throw new InvalidDataException($"{path}:{Math.Max(1, e.LineNumber)}: the table cannot be read past this point: a row is longer than {LineReader.LongestRow >> 20} MiB; check for an unclosed quote.", e);
        }
    }

    // The bytes of each cell, so that invalid UTF-8 is reported for its cell.
    private static byte[][] Cells(CsvReader reader)
    {
        var cells = new byte[reader.FieldCount][];
        for (var i = 0; i < cells.Length; i++)
        {
            cells[i] = reader.GetSpan(i).ToArray();
        }

        return cells;
    }

    private static string Problem(CsvMalformedReason reason) => reason == CsvMalformedReason.UnterminatedQuote
        ? "a quote in this row is not closed."
        : "unexpected quote; a cell that contains quotes must be quoted, with its own quotes doubled.";

    private static string[] Header(byte[][] cells, string path)
    {
        if (cells.Length > MaxColumns)
        {
            throw new InvalidDataException($"{path}:1: the header has {cells.Length} columns, more than expected; check the delimiter.");
        }

        var names = cells.Select((c, i) => Name(c, i, path)).ToArray();
        var twice = names.GroupBy(static n => n).FirstOrDefault(static g => g.Count() > 1);
        return twice is null ? names : throw new InvalidDataException($"{path}:1: the column \"{twice.Key}\" occurs {twice.Count()} times.");
    }

    private static string Name(byte[] cell, int index, string path)
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
