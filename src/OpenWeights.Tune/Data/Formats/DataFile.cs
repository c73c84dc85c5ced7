using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Reads rows of data files: JSON lines, JSON arrays of objects, CSV, TSV, Parquet and plain text, optionally compressed.
/// </summary>
internal static class DataFile
{
    /// <summary>The rows of a file, of a folder's files, or of the files that match a pattern.</summary>
    /// <param name="path">The file, folder or pattern.</param>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">A row cannot be read; the message names the line.</exception>
    public static IEnumerable<DataRow> Read(string path) => Read(new DataSource { Path = path });

    /// <summary>The rows of a data set, unchanged.</summary>
    /// <param name="source">The data set; its fields and roles are not applied.</param>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">A row cannot be read; the message names the line.</exception>
    public static IEnumerable<DataRow> Read(DataSource source)
    {
        ArgumentNullException.ThrowIfNull(source);
        return Files(source).SelectMany(f => Rows(f, source)).Select(static r => r.Parse());
    }

    /// <summary>The rows of a data set with field names mapped, up to its limit.</summary>
    /// <param name="source">The data set.</param>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">A row cannot be read, or lacks a mapped field; the message names the line.</exception>
    public static IEnumerable<DataRow> ReadNamed(DataSource source)
    {
        ArgumentNullException.ThrowIfNull(source);
        return Read(source).Take(source.Limit ?? int.MaxValue).Select(new FieldMap(source).Apply);
    }

    /// <summary>The rows of a data set with field names mapped, skipping those that cannot be read, which were reported before.</summary>
    internal static IEnumerable<DataRow> ReadGood(DataSource source)
    {
        var fields = new FieldMap(source);
        foreach (var raw in Files(source).SelectMany(f => Rows(f, source)))
        {
            DataRow row;
            try
            {
                row = fields.Apply(raw.Parse());
            }
            catch (InvalidDataException)
            {
                continue;
            }

            yield return row;
        }
    }

    /// <summary>The sources of a data set: its files, or a query.</summary>
    internal static IReadOnlyList<string> Files(DataSource source) => source.Rows is not null ? [source.Path] : source.Query is not null ? [source.Path.Length > 0 ? source.Path : "query"] : Stored(source);

    /// <summary>The files of a data set, which a query may select from.</summary>
    internal static IReadOnlyList<string> Stored(DataSource source) => source.Rows is not null ? []
        : GivenRows.Is(source.Path) ? throw new InvalidDataException($"{source.Path}: {GivenRows.Gone}")
        : HubDataPath.Is(source.Path) ? HubData.Files(source) : DataPaths.Expand(source.Path);

    /// <summary>The unparsed rows of one of a data set's files.</summary>
    internal static IEnumerable<RawRow> Rows(string path, DataSource source)
    {
        if (source.Rows is { } given)
        {
            return given.Select((json, i) => new RawRow(new RowPlace(path, i + 1, RowUnit.Row), new GivenContent(json)));
        }

        if (source.Query is { } query)
        {
            return SqlRows.Read(query, source.Path.Length == 0 ? null : source.Path, source.Path.Length == 0 ? [] : Stored(source));
        }

        return Path.GetExtension(Decompression.NameWithin(path)).ToLowerInvariant() switch
        {
            ".csv" => Opened(path, s => TableReader.Read(s, path, source.Delimiter is { Length: 1 } said ? said[0] : TableDelimiter.Of(path))),
            ".tsv" or ".tab" => Opened(path, s => TableReader.Read(s, path, source.Delimiter is { Length: 1 } said ? said[0] : '\t')),
            ".txt" or ".text" or ".md" => source.TextBy == "line" ? Opened(path, s => Lines(s, path, static b => new TextContent(b))) : [Document(path)],
            ".parquet" or ".parq" => SqlRows.ReadParquet(path),
            ".jsonl" or ".ndjson" => FirstByte(path) == '[' ? Json(path) : Opened(path, s => Lines(s, path, static b => new JsonContent(b, "this line"))),
            _ => Json(path),
        };
    }

    private static IEnumerable<RawRow> Json(string path)
    {
        var start = FirstByte(path);
        return start switch
        {
            '[' => Opened(path, s => new JsonArrayReader(s, path).Read().Select(e => new RawRow(new RowPlace(path, e.Number, RowUnit.Row), new JsonContent(e.Bytes, "this row")))),
            '{' when IsOneObject(path) => [Whole(path, static b => new JsonContent(b, "this file"))],
            '{' or -1 => Opened(path, s => Lines(s, path, static b => new JsonContent(b, "this line"))),
            'P' when IsParquet(path) => SqlRows.ReadParquet(path),
            'P' when Path.GetExtension(path).ToLowerInvariant() is ".xlsx" or ".xlsm" or ".ods" => throw new InvalidDataException($"{path}: this is a workbook of a spreadsheet program; save its sheet as CSV (UTF-8)."),
            _ => throw new InvalidDataException($"{path}: this is not a data file; supported are .jsonl, .json, .csv, .tsv, .parquet and .txt, also with .gz or .zst."),
        };
    }

    private static bool IsParquet(string path)
    {
        using var stream = Decompression.Open(path);
        var start = new byte[4];
        return stream.ReadAtLeast(start, 4, throwOnEndOfStream: false) == 4 && start.AsSpan().SequenceEqual("PAR1"u8);
    }

    // A pretty-printed object over several lines.
    private static bool IsOneObject(string path)
    {
        using var stream = Decompression.Open(path);
        foreach (var (_, line) in LineReader.Read(stream, path))
        {
            return line.AsSpan().Trim(" \t\r\n"u8) is [(byte)'{'] || !Ends(line);
        }

        return false;
    }

    private static bool Ends(byte[] line)
    {
        var reader = new System.Text.Json.Utf8JsonReader(line, isFinalBlock: false, default);
        try
        {
            while (reader.Read())
            {
            }

            return reader.CurrentDepth == 0;
        }
        catch (System.Text.Json.JsonException)
        {
            // Other errors are reported when the line is parsed.
            return true;
        }
    }

    private static int FirstByte(string path)
    {
        using var stream = Decompression.Open(path);
        var start = new byte[4096];
        for (var at = -1; ;)
        {
            var count = stream.Read(start);
            if (count == 0)
            {
                return -1;
            }

            at = at < 0 ? Utf8Start.Skip(start.AsSpan(0, count), path) : 0;
            var found = start.AsSpan(at, count - at).IndexOfAnyExcept(" \t\r\n"u8);
            if (found >= 0)
            {
                return start[at + found];
            }
        }
    }

    private static IEnumerable<RawRow> Opened(string path, Func<Stream, IEnumerable<RawRow>> read)
    {
        using var stream = Decompression.Open(path);
        foreach (var row in read(stream))
        {
            yield return row;
        }
    }

    private static IEnumerable<RawRow> Lines(Stream stream, string path, Func<byte[], IRawContent> content) =>
        LineReader.Read(stream, path).Select(l => new RawRow(new RowPlace(path, l.Number, RowUnit.Line), content(l.Bytes)));

    private static RawRow Document(string path) => Whole(path, static b => new TextContent(b));

    private static RawRow Whole(string path, Func<byte[], IRawContent> content)
    {
        using var stream = Decompression.Open(path);
        using var whole = new MemoryStream();
        var buffer = new byte[1 << 16];
        for (int count; (count = stream.Read(buffer)) > 0;)
        {
            whole.Write(buffer, 0, count);
            if (whole.Length > LineReader.LongestRow)
            {
                throw new InvalidDataException($"{path}: this document is larger than {LineReader.LongestRow >> 20} MiB; set text_by to line, or split the file.");
            }
        }

        var bytes = whole.ToArray();
        return new RawRow(new RowPlace(path, 1, RowUnit.File), content(bytes[Utf8Start.Skip(bytes, path)..]));
    }
}
