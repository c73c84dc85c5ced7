using Microsoft.Win32.SafeHandles;

namespace OpenWeights.Formats.Safetensors;

/// <summary>Reads from a position in a file; threads may read at the same time.</summary>
internal static class PositionedRead
{
    /// <summary>Checks that a part lies within its tensor.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The part does not lie within the tensor.</exception>
    public static void RequirePart(long tensorLength, long offset, int length, string tensor)
    {
        if (offset < 0 || offset > tensorLength - length)
        {
            throw new ArgumentOutOfRangeException(
                nameof(offset), $"{length} bytes from {offset} on do not lie within the {tensorLength} bytes of {Wording.Quote(tensor)}");
        }
    }

    /// <summary>Reads until the destination is full or the file ends.</summary>
    /// <returns>The bytes read.</returns>
    public static int Fill(SafeFileHandle file, Span<byte> destination, long offset)
    {
        var filled = 0;
        while (filled < destination.Length)
        {
            var read = RandomAccess.Read(file, destination[filled..], offset + filled);
            if (read == 0)
            {
                break;
            }

            filled += read;
        }

        return filled;
    }
}
