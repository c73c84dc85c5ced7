using System.Runtime.InteropServices;
using System.Text;

namespace OpenWeights.Tune.Data.Sql;

/// <summary>A query whose rows come one after another, each as a JSON object, without the result ever being in memory whole.</summary>
internal sealed unsafe class DuckDbQuery : IDisposable
{
    private readonly DuckDb _duck;
    private readonly string _place;
    private State* _state = (State*)NativeMemory.AllocZeroed((nuint)sizeof(State));
    private bool _hasResult;

    /// <summary>Runs a query in a database of its own that lies in memory.</summary>
    /// <param name="duck">The library.</param>
    /// <param name="setup">Statements to run before.</param>
    /// <param name="select">The query.</param>
    /// <param name="place">What messages call it.</param>
    /// <exception cref="InvalidDataException">The query is wrong, or a file of it cannot be read.</exception>
    internal DuckDbQuery(DuckDb duck, IEnumerable<string> setup, string select, string place)
    {
        (_duck, _place) = (duck, place);
        try
        {
            Start(setup, select);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The rows that come next, or null behind the last.</summary>
    /// <exception cref="InvalidDataException">A row cannot be read.</exception>
    internal byte[][]? Next()
    {
        var chunk = _duck.FetchChunk(_state->Result);
        if (chunk == 0)
        {
            return _duck.ResultError(&_state->Result) is var error && error is null ? null : throw Wrong(error);
        }

        var texts = _duck.VectorData(_duck.ChunkVector(chunk, 0));
        var rows = new byte[_duck.ChunkSize(chunk)][];
        for (var i = 0; i < rows.Length; i++)
        {
            rows[i] = DuckDb.Text.Bytes(texts + i);
        }

        _duck.DestroyChunk(&chunk);
        return rows.Length == 0 ? null : rows;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_state is null)
        {
            return;
        }

        if (_hasResult)
        {
            _duck.DestroyResult(&_state->Result);
        }

        _duck.DestroyPrepare(&_state->Statement);
        _duck.Disconnect(&_state->Connection);
        _duck.Close(&_state->Database);
        NativeMemory.Free(_state);
        _state = null;
    }

    private void Start(IEnumerable<string> setup, string select)
    {
        if (_duck.Open(null, &_state->Database) != 0 || _duck.Connect(_state->Database, &_state->Connection) != 0)
        {
            throw new InvalidDataException($"{_place}: DuckDB could not be started.");
        }

        foreach (var text in setup)
        {
            Run(text);
        }

        fixed (byte* text = Bytes($"SELECT to_json(t)::VARCHAR FROM ({select.Trim().TrimEnd(';')}\n) AS t"))
        {
            if (_duck.Prepare(_state->Connection, text, &_state->Statement) != 0)
            {
                throw Wrong(_duck.PrepareError(_state->Statement));
            }
        }

        _hasResult = true;
        if (_duck.ExecuteStreaming(_state->Statement, &_state->Result) != 0)
        {
            throw Wrong(_duck.ResultError(&_state->Result));
        }
    }

    private void Run(string statement)
    {
        DuckDb.Result result;
        fixed (byte* text = Bytes(statement))
        {
            var failed = _duck.Query(_state->Connection, text, &result) != 0;
            var error = failed ? Wrong(_duck.ResultError(&result)) : null;
            _duck.DestroyResult(&result);
            if (error is not null)
            {
                throw error;
            }
        }
    }

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text + "\0");

    private InvalidDataException Wrong(byte* message) => new($"{_place}: {Marshal.PtrToStringUTF8((nint)message)?.Split("\n\nLINE")[0].ReplaceLineEndings(" ").TrimEnd('.') ?? "DuckDB failed"}.");

    private struct State
    {
        internal nint Database;
        internal nint Connection;
        internal nint Statement;
        internal DuckDb.Result Result;
    }
}
