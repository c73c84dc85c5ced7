using OpenWeights.Tune.Data.Formats;

namespace OpenWeights.Tune.Data.Files;

/// <summary>
/// Rows of Parquet files and of SQL queries, through DuckDB. Other files are read by readers of our own (<see cref="DataFile"/>):
/// DuckDB's end at the first bad row, so that bad rows could not be counted or left out; take a field that is there twice; give every row
/// the fields of all; and change texts that look like a time or a UUID, and cells that are empty.
/// </summary>
internal static class SqlRows
{
    /// <summary>The rows of a Parquet file.</summary>
    /// <exception cref="InvalidDataException">The file cannot be read.</exception>
    internal static IEnumerable<RawRow> ReadParquet(string path) => Rows(Parquet(SqlText.QuotePath(path)), null, path);

    /// <summary>The rows of a query. With a path, the table <c>data</c> holds its rows.</summary>
    /// <exception cref="InvalidDataException">The query is wrong, or a file cannot be read.</exception>
    internal static IEnumerable<RawRow> Read(string query, string? path) =>
        Rows($"query({SqlText.Quote(query)})", path, path is null ? "query" : $"query of {path}");

    private static IEnumerable<RawRow> Rows(string from, string? data, string place)
    {
        using var database = new SqlDatabase(place);
        if (data is not null)
        {
            database.Execute($"CREATE TEMP VIEW data AS {Table(data, database)}");
        }

        var number = 0L;
        foreach (var row in database.Rows(from))
        {
            yield return new RawRow(new RowPlace(place, ++number, RowUnit.Row), new SqlContent(row));
        }
    }

    private static string Table(string path, SqlDatabase database)
    {
        var files = DataPaths.Expand(path);
        var list = $"[{string.Join(", ", files.Select(SqlText.QuotePath))}]";
        var packed = Decompression.Kind(files[0]) switch { "none" => "compression = 'uncompressed'", var kind => $"compression = '{kind}'" };
        return Path.GetExtension(Decompression.NameWithin(files[0])).ToLowerInvariant() switch
        {
            ".csv" => Cells(list, ',', packed),
            ".tsv" or ".tab" => Cells(list, '\t', packed),
            ".parquet" or ".parq" => $"SELECT * FROM {Parquet(list)}",
            ".txt" or ".text" or ".md" => $"SELECT content AS text FROM read_text({list})",
            _ => Objects($"read_json_objects({list}, {packed})", path, database),
        };
    }

    // A folder's name (year=2020) is no field.
    private static string Parquet(string files) => $"read_parquet({files}, hive_partitioning = false)";

    // A cell is its text: an empty one too, so what means null is what no file has.
    private static string Cells(string list, char separator, string packed) =>
        $"SELECT * FROM read_csv({list}, {packed}, hive_partitioning = false, delim = '{separator}', quote = '\"', escape = '\"', comment = '', skip = 0, header = true, all_varchar = true, nullstr = '\u0001')";

    // Fields have the types of JSON, not those that read_json finds in texts.
    private static string Objects(string rows, string path, SqlDatabase database)
    {
        var fields = database.Text($"SELECT json_group_structure(json)::VARCHAR FROM {rows}")
            ?? throw new InvalidDataException($"{path}: there is no row in it.");
        return fields.StartsWith('{')
            ? $"SELECT unnest(from_json(json, {SqlText.Quote(fields)})) FROM {rows}"
            : throw new InvalidDataException($"{path}: a row must be an object such as {{\"prompt\": ..., \"completion\": ...}}.");
    }
}

/// <summary>What is said to DuckDB, and what it says.</summary>
internal static class SqlText
{
    private static readonly string[] s_advice = ["\n\n", "\nLINE ", "\nThe search space", "\nPossible ", "\nPossible fixes"];

    /// <summary>A text as SQL writes it.</summary>
    internal static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";

    /// <summary>A file's path as SQL writes it, none of its characters standing for others.</summary>
    internal static string QuotePath(string path) => Quote(path.Replace("[", "[[]", StringComparison.Ordinal).Replace("*", "[*]", StringComparison.Ordinal).Replace("?", "[?]", StringComparison.Ordinal));

    /// <summary>What is wrong, without the statement, which is in part of our making, and without advice on settings that are not the reader's.</summary>
    internal static string Reason(string message)
    {
        var reason = message[(message.LastIndexOf("\nError: ", StringComparison.Ordinal) is var cause && cause < 0 ? 0 : cause + 8)..];
        foreach (var advice in s_advice)
        {
            reason = reason.Split(advice)[0];
        }

        return reason.ReplaceLineEndings(" ").Trim().TrimEnd('.', '!');
    }
}
