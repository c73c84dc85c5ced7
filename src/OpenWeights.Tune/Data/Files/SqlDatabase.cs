using System.Data.Common;
using DuckDB.NET.Data;

namespace OpenWeights.Tune.Data.Files;

/// <summary>An in-memory DuckDB for reading data, without network access. Its library is loaded at first use.</summary>
internal sealed class SqlDatabase : IDisposable
{
    // Sorts and joins that exceed memory spill to this folder, which DuckDB creates on demand and deletes when closed.
    private readonly string _overflow = Path.Combine(Path.GetTempPath(), $"owt-sql-{Guid.NewGuid():N}");
    private readonly DuckDBConnection _connection = new("DataSource=:memory:");
    private readonly string _place;

    /// <summary>Creates an empty database.</summary>
    /// <param name="place">Name of the data source for messages.</param>
    /// <exception cref="InvalidDataException">DuckDB's library cannot be loaded on this machine.</exception>
    internal SqlDatabase(string place)
    {
        _place = place;
        try
        {
            _connection.Open();
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException or EntryPointNotFoundException or TypeInitializationException)
        {
            _connection.Dispose();
            throw new InvalidDataException($"{place}: Parquet and SQL need DuckDB's library, which cannot be loaded on this machine ({(e.InnerException ?? e).Message.Split('\n')[0].TrimEnd('.')}); write the rows as JSON lines or CSV.", e);
        }

        // The model needs the memory: by default DuckDB would use four fifths of it.
        Execute($"SET memory_limit = '{Math.Max(256, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes >> 22)}MiB'");
        Execute($"SET temp_directory = {SqlText.Quote(_overflow)}");
        Execute("SET autoinstall_known_extensions = false");
        Execute("SET autoload_known_extensions = false");
        Execute("SET lock_configuration = true");
    }

    /// <summary>Runs a statement.</summary>
    /// <exception cref="InvalidDataException">The statement is invalid, or a file cannot be read.</exception>
    internal void Execute(string statement)
    {
        using var command = Command(statement);
        _ = Told(command.ExecuteNonQuery);
    }

    /// <summary>The single text that a query returns, or null.</summary>
    /// <exception cref="InvalidDataException">The statement is invalid, or a file cannot be read.</exception>
    internal string? Text(string select)
    {
        using var command = Command(select);
        return Told(command.ExecuteScalar) as string;
    }

    /// <summary>The rows of a FROM clause as JSON objects, streamed without loading the whole result.</summary>
    /// <exception cref="InvalidDataException">The statement is invalid, or a file cannot be read.</exception>
    internal IEnumerable<byte[]> Rows(string from)
    {
        // The row alias must not equal a column name, which would take precedence.
        using var command = Command($"SELECT encode(to_json(owt_whole_row)::VARCHAR) FROM {from} AS owt_whole_row");
        command.UseStreamingMode = true;
        using var reader = Told(command.ExecuteReader);
        while (Told(reader.Read))
        {
            using var value = reader.GetStream(0);
            var row = new byte[value.Length];
            value.ReadExactly(row);
            yield return row;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();

    private DuckDBCommand Command(string text)
    {
        var command = _connection.CreateCommand();
        command.CommandText = text;
        return command;
    }

    private T Told<T>(Func<T> act)
    {
        try
        {
            return act();
        }
        catch (DbException e)
        {
            throw new InvalidDataException($"{_place}: {SqlText.Reason(e.Message)}.", e);
        }
    }
}
