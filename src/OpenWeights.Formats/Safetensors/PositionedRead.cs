using Microsoft.Win32.SafeHandles;

namespace OpenWeights.Formats.Safetensors;

/// <summary>Reads from a place in a file, by any number of threads at once.</summary>
internal static class PositionedRead
{
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
