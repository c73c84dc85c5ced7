using OpenWeights.Tune.Data.Formats;

namespace OpenWeights.Tune.Data.Files;

/// <summary>
/// Reads Parquet files and SQL queries with DuckDB. Other files are read by our own readers (<see cref="DataFile"/>): DuckDB's
/// stop at the first bad row, so that bad rows could not be counted or skipped; they accept duplicate fields; give every row
/// the fields of all rows; and change texts that look like a time or UUID, and empty cells.
/// </summary>
internal static class SqlRows
{
    /// <summary>The rows of a Parquet file.</summary>
    /// <exception cref="InvalidDataException">The file cannot be read.</exception>
    internal static IEnumerable<RawRow> ReadParquet(string path) => Rows(Parquet(SqlText.QuotePath(path)), null, [], path);

    /// <summary>The rows of a query. If a path is given, the table <c>data</c> contains its rows.</summary>
    /// <exception cref="InvalidDataException">The query is invalid, or a file cannot be read.</exception>
    internal static IEnumerable<RawRow> Read(string query, string? path, IReadOnlyList<string> files) =>
        Rows($"query({SqlText.Quote(query)})", path, files, path is null ? "query" : $"query of {path}");

    private static IEnumerable<RawRow> Rows(string from, string? data, IReadOnlyList<string> files, string place)
    {
        using var database = new SqlDatabase(place);
        if (data is not null)
        {
            database.Execute($"CREATE TEMP VIEW data AS {Table(data, files, database)}");
        }

        var number = 0L;
        foreach (var row in database.Rows(from))
        {
            yield return new RawRow(new RowPlace(place, ++number, RowUnit.Row), new SqlContent(row));
        }
    }

    private static string Table(string path, IReadOnlyList<string> files, SqlDatabase database)
    {
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

    // A partition folder (year=2020) is not a field.
    private static string Parquet(string files) => $"read_parquet({files}, hive_partitioning = false)";

    // Cells are texts, including empty ones, so the null string is one that occurs in no file.
    private static string Cells(string list, char separator, string packed) =>
        $"SELECT * FROM read_csv({list}, {packed}, hive_partitioning = false, delim = '{separator}', quote = '\"', escape = '\"', comment = '', skip = 0, header = true, all_varchar = true, nullstr = '\u0001')";

    // Fields keep their JSON types; read_json's type detection in texts is disabled.
    private static string Objects(string rows, string path, SqlDatabase database)
    {
        var fields = database.Text($"SELECT json_group_structure(json)::VARCHAR FROM {rows}")
            ?? throw new InvalidDataException($"{path}: the file contains no rows.");
        return fields.StartsWith('{')
            ? $"SELECT unnest(from_json(json, {SqlText.Quote(fields)})) FROM {rows}"
            : throw new InvalidDataException($"{path}: a row must be an object such as {{\"prompt\": ..., \"completion\": ...}}.");
    }
}

/// <summary>SQL text for DuckDB, and its error messages.</summary>
internal static class SqlText
{
    private static readonly string[] s_advice = ["\n\n", "\nLINE ", "\nThe search space", "\nPossible ", "\nPossible fixes"];

    /// <summary>A text as an SQL literal.</summary>
    internal static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";

    /// <summary>A file path as an SQL literal, with glob characters escaped.</summary>
    internal static string QuotePath(string path) => Quote(path.Replace("[", "[[]", StringComparison.Ordinal).Replace("*", "[*]", StringComparison.Ordinal).Replace("?", "[?]", StringComparison.Ordinal));

    /// <summary>
    /// An error message without the statement, which is partly generated, and without advice on DuckDB settings that users cannot change.
    /// </summary>
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
