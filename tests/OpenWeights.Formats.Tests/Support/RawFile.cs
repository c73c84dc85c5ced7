using System.Buffers.Binary;
using System.Text;

namespace OpenWeights.Formats.Tests.Support;

/// <summary>Puts safetensors files together from a header's text, valid or not, without the code under test.</summary>
internal static class RawFile
{
    /// <summary>The length, the header, and bytes that count 0, 1, 2, ...</summary>
    public static byte[] Bytes(string header, int dataLength = 0) => Bytes(Encoding.UTF8.GetBytes(header), dataLength);

    public static byte[] Bytes(byte[] header, int dataLength = 0)
    {
        var bytes = new byte[sizeof(ulong) + header.Length + dataLength];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, (ulong)header.Length);
        header.CopyTo(bytes, sizeof(ulong));
        for (var i = 0; i < dataLength; i++)
        {
            bytes[sizeof(ulong) + header.Length + i] = (byte)i;
        }

        return bytes;
    }

    /// <summary>A header entry.</summary>
    public static string Tensor(string name, string dtype, string shape, long start, long end) =>
        $$"""
        "{{name}}":{"dtype":"{{dtype}}","shape":[{{shape}}],"data_offsets":[{{start}},{{end}}]}
        """;

    public static string Header(params string[] entries) => $"{{{string.Join(',', entries)}}}";
}
