using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Uncompresses Zstandard with the system's libzstd: .NET 10 has no reader of its own.</summary>
internal sealed unsafe class ZstandardStream : Stream
{
    private static readonly Lazy<Library?> s_library = new(Library.Find);
    private readonly Stream _source;
    private readonly Library _zstd;
    private readonly byte[] _input = new byte[1 << 17];
    private nint _state;
    private int _at;
    private int _end;
    private bool _withinFrame;

    /// <summary>A stream over a compressed one, which it owns.</summary>
    /// <exception cref="InvalidDataException">The system has no libzstd.</exception>
    internal ZstandardStream(Stream source, string path)
    {
        _source = source;
        _zstd = s_library.Value ?? throw new InvalidDataException(
            $"{path} is compressed with Zstandard, and libzstd is not installed (apt install libzstd1, brew install zstd); or uncompress the file with `zstd -d`.");
        _state = _zstd.Create();
    }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(Span<byte> buffer)
    {
        while (buffer.Length > 0)
        {
            var ended = false;
            if (_at == _end)
            {
                (_at, _end) = (0, _source.Read(_input));
                ended = _end == 0;
            }

            var written = Step(buffer, out var advanced);
            if (written > 0)
            {
                return written;
            }

            if (ended && !advanced)
            {
                return _withinFrame ? throw new InvalidDataException("the last frame is not whole") : 0;
            }
        }

        return 0;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Flush()
    {
        // Nothing is written.
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (_state != 0)
        {
            _ = _zstd.Free(_state);
            _state = 0;
        }

        if (disposing)
        {
            _source.Dispose();
        }

        base.Dispose(disposing);
    }

    private int Step(Span<byte> buffer, out bool advanced)
    {
        fixed (byte* input = _input)
        fixed (byte* output = buffer)
        {
            var from = new Area { Start = input, Length = (nuint)_end, At = (nuint)_at };
            var to = new Area { Start = output, Length = (nuint)buffer.Length };
            var left = _zstd.Decompress(_state, &to, &from);
            if (_zstd.IsError(left) != 0)
            {
                throw new InvalidDataException(Marshal.PtrToStringUTF8(_zstd.Name(left)));
            }

            advanced = from.At > (nuint)_at || to.At > 0;
            _withinFrame = advanced ? left != 0 : _withinFrame;
            _at = (int)from.At;
            return (int)to.At;
        }
    }

    // ZSTD_inBuffer and ZSTD_outBuffer.
    [StructLayout(LayoutKind.Sequential)]
    private struct Area
    {
        internal byte* Start;
        internal nuint Length;
        internal nuint At;
    }

    private sealed class Library(nint handle)
    {
        private static readonly string[] s_names = ["libzstd.so.1", "libzstd.1.dylib", "/opt/homebrew/lib/libzstd.1.dylib", "/usr/local/lib/libzstd.1.dylib", "libzstd.dll", "zstd.dll"];
        private readonly delegate* unmanaged<nint> _create = (delegate* unmanaged<nint>)NativeLibrary.GetExport(handle, "ZSTD_createDStream");
        private readonly delegate* unmanaged<nint, nuint> _free = (delegate* unmanaged<nint, nuint>)NativeLibrary.GetExport(handle, "ZSTD_freeDStream");
        private readonly delegate* unmanaged<nint, Area*, Area*, nuint> _decompress = (delegate* unmanaged<nint, Area*, Area*, nuint>)NativeLibrary.GetExport(handle, "ZSTD_decompressStream");
        private readonly delegate* unmanaged<nuint, uint> _isError = (delegate* unmanaged<nuint, uint>)NativeLibrary.GetExport(handle, "ZSTD_isError");
        private readonly delegate* unmanaged<nuint, nint> _name = (delegate* unmanaged<nuint, nint>)NativeLibrary.GetExport(handle, "ZSTD_getErrorName");

        internal static Library? Find()
        {
            foreach (var name in s_names)
            {
                if (NativeLibrary.TryLoad(name, out var handle))
                {
                    return new Library(handle);
                }
            }

            return null;
        }

        internal nint Create() => _create();

        internal nuint Free(nint state) => _free(state);

        internal nuint Decompress(nint state, Area* output, Area* input) => _decompress(state, output, input);

        internal uint IsError(nuint code) => _isError(code);

        internal nint Name(nuint code) => _name(code);
    }
}
