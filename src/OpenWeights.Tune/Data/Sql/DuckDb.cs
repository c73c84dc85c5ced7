using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Data.Sql;

/// <summary>
/// The functions of DuckDB's C API (stable since 1.0) that reading rows takes. The library is loaded when the first Parquet file or
/// query comes; nothing else needs it.
/// </summary>
internal sealed unsafe class DuckDb
{
    private const string Variable = "OWT_DUCKDB";
    private static readonly Lazy<DuckDb?> s_library = new(Find);

    internal readonly delegate* unmanaged<byte*, nint*, int> Open;
    internal readonly delegate* unmanaged<nint, nint*, int> Connect;
    internal readonly delegate* unmanaged<nint*, void> Disconnect;
    internal readonly delegate* unmanaged<nint*, void> Close;
    internal readonly delegate* unmanaged<nint, byte*, Result*, int> Query;
    internal readonly delegate* unmanaged<nint, byte*, nint*, int> Prepare;
    internal readonly delegate* unmanaged<nint, byte*> PrepareError;
    internal readonly delegate* unmanaged<nint*, void> DestroyPrepare;
    internal readonly delegate* unmanaged<nint, Result*, int> ExecuteStreaming;
    internal readonly delegate* unmanaged<Result*, byte*> ResultError;
    internal readonly delegate* unmanaged<Result*, void> DestroyResult;
    internal readonly delegate* unmanaged<Result, nint> FetchChunk;
    internal readonly delegate* unmanaged<nint*, void> DestroyChunk;
    internal readonly delegate* unmanaged<nint, ulong> ChunkSize;
    internal readonly delegate* unmanaged<nint, ulong, nint> ChunkVector;
    internal readonly delegate* unmanaged<nint, Text*> VectorData;

    private DuckDb(nint library)
    {
        nint Export(string name) => NativeLibrary.GetExport(library, "duckdb_" + name);
        Open = (delegate* unmanaged<byte*, nint*, int>)Export("open");
        Connect = (delegate* unmanaged<nint, nint*, int>)Export("connect");
        Disconnect = (delegate* unmanaged<nint*, void>)Export("disconnect");
        Close = (delegate* unmanaged<nint*, void>)Export("close");
        Query = (delegate* unmanaged<nint, byte*, Result*, int>)Export("query");
        Prepare = (delegate* unmanaged<nint, byte*, nint*, int>)Export("prepare");
        PrepareError = (delegate* unmanaged<nint, byte*>)Export("prepare_error");
        DestroyPrepare = (delegate* unmanaged<nint*, void>)Export("destroy_prepare");
        ExecuteStreaming = (delegate* unmanaged<nint, Result*, int>)Export("execute_prepared_streaming");
        ResultError = (delegate* unmanaged<Result*, byte*>)Export("result_error");
        DestroyResult = (delegate* unmanaged<Result*, void>)Export("destroy_result");
        FetchChunk = (delegate* unmanaged<Result, nint>)Export("fetch_chunk");
        DestroyChunk = (delegate* unmanaged<nint*, void>)Export("destroy_data_chunk");
        ChunkSize = (delegate* unmanaged<nint, ulong>)Export("data_chunk_get_size");
        ChunkVector = (delegate* unmanaged<nint, ulong, nint>)Export("data_chunk_get_vector");
        VectorData = (delegate* unmanaged<nint, Text*>)Export("vector_get_data");
    }

    /// <summary>Whether DuckDB's library is there.</summary>
    internal static bool IsThere => s_library.Value is not null;

    /// <summary>The library.</summary>
    /// <exception cref="InvalidDataException">It is not installed.</exception>
    internal static DuckDb Get(string wantedFor) => s_library.Value ?? throw new InvalidDataException(
        $"{wantedFor} needs DuckDB's library, which is not installed: run scripts/duckdb once (24 MB), or unpack libduckdb of duckdb.org and name its file in {Variable}. Or write the rows as JSON lines or CSV.");

    private static DuckDb? Find()
    {
        var file = OperatingSystem.IsWindows() ? "duckdb.dll" : OperatingSystem.IsMacOS() ? "libduckdb.dylib" : "libduckdb.so";
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named)
        {
            var path = Directory.Exists(named) ? Path.Combine(named, file) : named;
            return NativeLibrary.TryLoad(path, out var chosen)
                ? new DuckDb(chosen)
                : throw new InvalidDataException($"{Variable} names {named}, and DuckDB's library cannot be loaded from there.");
        }

        foreach (var place in new[] { Path.Combine(AppContext.BaseDirectory, file), FetchedInto(file), file })
        {
            if (place is not null && NativeLibrary.TryLoad(place, out var handle))
            {
                return new DuckDb(handle);
            }
        }

        return null;
    }

    // Where scripts/duckdb puts it, for a program that runs out of a checkout.
    private static string? FetchedInto(string file)
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "OpenWeights.Tune.sln")))
            {
                return Path.Combine(folder.FullName, "artifacts", "duckdb", file);
            }
        }

        return null;
    }

    /// <summary>duckdb_result: the library owns what is in it.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct Result
    {
        private readonly ulong _columnCount;
        private readonly ulong _rowCount;
        private readonly ulong _rowsChanged;
        private readonly nint _columns;
        private readonly nint _errorMessage;
        private readonly nint _internalData;
    }

    /// <summary>duckdb_string_t: up to 12 bytes stand in it, more behind a pointer.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 16)]
    internal struct Text
    {
        [FieldOffset(0)]
        private readonly uint _length;

        [FieldOffset(4)]
        private readonly byte _inline;

        [FieldOffset(8)]
        private readonly byte* _far;

        /// <summary>A copy of the bytes of a text that lies in a vector.</summary>
        internal static byte[] Bytes(Text* text) => new ReadOnlySpan<byte>(text->_length <= 12 ? &text->_inline : text->_far, checked((int)text->_length)).ToArray();
    }
}
