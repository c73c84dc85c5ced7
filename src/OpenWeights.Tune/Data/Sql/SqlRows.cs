using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Sql;

/// <summary>Rows of Parquet files and of SQL queries, through DuckDB.</summary>
internal static class SqlRows
{
    // Nothing is fetched from anywhere: what the library was built with (JSON, CSV, Parquet) is enough.
    private static readonly string[] s_setup = ["SET autoinstall_known_extensions = false", "SET autoload_known_extensions = false"];

    /// <summary>The rows of a Parquet file.</summary>
    /// <exception cref="InvalidDataException">The file cannot be read, or DuckDB is not installed.</exception>
    internal static IEnumerable<RawRow> ReadParquet(string path) => Rows($"SELECT * FROM read_parquet({Quote(path)})", [], path, "a Parquet file");

    /// <summary>The rows of a query. With a path, the table <c>data</c> holds its rows.</summary>
    /// <exception cref="InvalidDataException">The query is wrong, a file cannot be read, or DuckDB is not installed.</exception>
    internal static IEnumerable<RawRow> Read(string query, string? path) =>
        Rows(query, path is null ? [] : [$"CREATE TEMP VIEW data AS SELECT * FROM {Table(path)}"], path is null ? "query" : $"query of {path}", "query");

    private static IEnumerable<RawRow> Rows(string select, IEnumerable<string> setup, string place, string wantedFor)
    {
        using var rows = new DuckDbQuery(DuckDb.Get($"{place}: {wantedFor}"), [.. s_setup, .. setup], select, place);
        for (var number = 0L; rows.Next() is { } chunk;)
        {
            foreach (var row in chunk)
            {
                yield return new RawRow(new RowPlace(place, ++number, RowUnit.Row), new JsonContent(row, "this row"));
            }
        }
    }

    private static string Table(string path)
    {
        var files = DataPaths.Expand(path);
        var list = $"[{string.Join(", ", files.Select(Quote))}]";
        return Path.GetExtension(Decompression.NameWithin(files[0])).ToLowerInvariant() switch
        {
            ".csv" => $"read_csv({list}, delim = ',', header = true, all_varchar = true)",
            ".tsv" or ".tab" => $"read_csv({list}, delim = '\\t', header = true, all_varchar = true)",
            ".parquet" or ".parq" => $"read_parquet({list})",
            ".txt" or ".text" or ".md" => $"read_text({list})",
            _ => $"read_json({list}, sample_size = -1)",
        };
    }

    private static string Quote(string text) => $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";
}
