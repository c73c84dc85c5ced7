using System.Data.Common;
using DuckDB.NET.Data;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A DuckDB for one reading. It lies in memory, and nothing of it is fetched from anywhere; its library is loaded when the first one is made.</summary>
internal sealed class SqlDatabase : IDisposable
{
    // What does not fit (a sort, a join) goes to this folder, which DuckDB makes when it needs it and removes when it closes.
    private readonly string _overflow = Path.Combine(Path.GetTempPath(), $"owt-sql-{Guid.NewGuid():N}");
    private readonly DuckDBConnection _connection = new("DataSource=:memory:");
    private readonly string _place;

    /// <summary>An empty database.</summary>
    /// <param name="place">What messages call its source.</param>
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

        // The model has its own use for the memory: DuckDB by itself would take four fifths of it.
        Execute($"SET memory_limit = '{Math.Max(256, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes >> 22)}MiB'");
        Execute($"SET temp_directory = {SqlText.Quote(_overflow)}");
        Execute("SET autoinstall_known_extensions = false");
        Execute("SET autoload_known_extensions = false");
        Execute("SET lock_configuration = true");
    }

    /// <summary>Runs a statement.</summary>
    /// <exception cref="InvalidDataException">It is wrong, or a file of it cannot be read.</exception>
    internal void Execute(string statement)
    {
        using var command = Command(statement);
        _ = Told(command.ExecuteNonQuery);
    }

    /// <summary>The one text that a query gives, or null.</summary>
    /// <exception cref="InvalidDataException">It is wrong, or a file of it cannot be read.</exception>
    internal string? Text(string select)
    {
        using var command = Command(select);
        return Told(command.ExecuteScalar) as string;
    }

    /// <summary>The rows of what stands behind FROM, each as a JSON object, one after another without the result ever being in memory whole.</summary>
    /// <exception cref="InvalidDataException">It is wrong, or a file of it cannot be read.</exception>
    internal IEnumerable<byte[]> Rows(string from)
    {
        // The rows have a name that no column has: a column's name would win.
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
