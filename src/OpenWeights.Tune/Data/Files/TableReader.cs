using CsvHelper;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Reads CSV and TSV (RFC 4180: quoted cells may hold separators, line ends and doubled quotes), the first line naming the columns.</summary>
internal static class TableReader
{
    private const int MaxColumns = 10_000;

    /// <summary>The rows, each with the line that it begins at.</summary>
    /// <exception cref="InvalidDataException">The header is no header, or a row is too long.</exception>
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
            throw new InvalidDataException($"{path}:{Math.Max(1, e.LineNumber)}: the table cannot be read on from here: a row is longer than {LineReader.LongestRow >> 20} MiB; is a quote never closed?", e);
        }
    }

    // The bytes of each cell: what is no UTF-8 is told of its own cell.
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
        ? "a quote is opened in this row and never closed."
        : "a quote stands where none may be; a cell with quotes in it is written in quotes, and its own quotes twice.";

    private static string[] Header(byte[][] cells, string path)
    {
        if (cells.Length > MaxColumns)
        {
            throw new InvalidDataException($"{path}:1: the header has {cells.Length} columns; a table of rows to train on has a few. Is the separator right?");
        }

        var names = cells.Select((c, i) => Name(c, i, path)).ToArray();
        var twice = names.GroupBy(static n => n).FirstOrDefault(static g => g.Count() > 1);
        return twice is null ? names : throw new InvalidDataException($"{path}:1: the column \"{twice.Key}\" is there {twice.Count()} times.");
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
