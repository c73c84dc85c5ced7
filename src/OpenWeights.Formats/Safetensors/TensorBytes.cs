using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;
using OpenWeights.Formats.Files;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// A tensor's bytes in the mapped file, without a copy. The mapping stays in place until this is disposed, even if the file is
/// disposed before; pointers and spans taken from here are valid until then and must not be used after.
/// </summary>
/// <remarks>Any number of threads may read at once. Should another program shorten the file meanwhile, touching what is gone ends
/// the process (as with any mapped file): where that can happen, use <see cref="ITensorSource.CopyTo"/>, which reports it
/// instead.</remarks>
public sealed unsafe class TensorBytes : IDisposable
{
    private const long WorthReleasing = 1 << 20;

    private readonly SafeMemoryMappedViewHandle view;
    private readonly string name;
    private byte* pointer;

    internal TensorBytes(MemoryMappedViewAccessor mapping, TensorEntry entry)
    {
        view = mapping.SafeMemoryMappedViewHandle;
        name = entry.Name;
        Length = entry.ByteLength;
        view.AcquirePointer(ref pointer);
        pointer += mapping.PointerOffset + entry.FileOffset;
    }

    /// <summary>A part of a tensor's bytes as a tensor of its own; the whole is given back with it.</summary>
    internal TensorBytes(TensorBytes whole, long offset, TensorEntry part)
    {
        (view, name, Length) = (whole.view, part.Name, part.ByteLength);
        view.AcquirePointer(ref pointer);
        pointer = whole.Start + offset;
        whole.Dispose();
    }

    /// <summary>The tensor's bytes, in number.</summary>
    public long Length { get; }

    /// <summary>The first byte; read-only memory. Its alignment is what the file gives it, which may be a single byte.</summary>
    /// <exception cref="ObjectDisposedException">The bytes were given back.</exception>
    public byte* Start
    {
        get
        {
            ObjectDisposedException.ThrowIf(pointer is null, this);
            return pointer;
        }
    }

    /// <summary>A part of the bytes as a span, for tensors above the 2 GB that one span can hold as for small ones.</summary>
    /// <param name="offset">The first byte of the part, counted from the tensor's start.</param>
    /// <param name="length">The bytes of the part.</param>
    /// <exception cref="ArgumentOutOfRangeException">The part does not lie within the tensor.</exception>
    /// <exception cref="ObjectDisposedException">The bytes were given back.</exception>
    public ReadOnlySpan<byte> Slice(long offset, int length)
    {
        if (offset < 0 || length < 0 || offset > Length - length)
        {
            throw new ArgumentOutOfRangeException(nameof(offset), Wording.OutOfRange(length, offset, Length, name));
        }

        return new ReadOnlySpan<byte>(Start + offset, length);
    }

    /// <summary>Gives the bytes back. Those of a large tensor leave the process's resident memory (not the system's cache).</summary>
    public void Dispose()
    {
        if (pointer is null)
        {
            return;
        }

        if (Length >= WorthReleasing)
        {
            NativeFiles.ReleasePages((nint)pointer, Length);
        }

        pointer = null;
        view.ReleasePointer();
    }
}
