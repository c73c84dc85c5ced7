using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// Writes safetensors files byte for byte as the reference implementation does
/// (<see href="https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs"/>): tensors by element type, the
/// widest first, then by name; a compact header with the metadata first, filled up with spaces to a multiple of 8.
/// </summary>
public static class SafetensorsWriter
{
    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Writes a file, atomically: see <see cref="AtomicFile"/>.</summary>
    /// <param name="path">The file; its folder must exist.</param>
    /// <param name="tensors">The tensors, in any order. Their bytes are asked for one tensor after another, in the order of the
    /// file.</param>
    /// <param name="metadata">Texts for <c>__metadata__</c>, written in the order in which they are enumerated; null writes none.
    /// PyTorch's tools want <c>format: pt</c>.</param>
    /// <exception cref="ArgumentException">Two tensors have one name, a name is not valid Unicode, or the header would be longer than the format allows (100
    /// MB).</exception>
    /// <exception cref="InvalidOperationException">A tensor's callback gave more or fewer bytes than the tensor has.</exception>
    /// <exception cref="IOException">The disk is full or refused otherwise; the message names the path and the cause, and an old
    /// file under the name is untouched.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public static void Write(string path, IReadOnlyList<TensorToWrite> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        var ordered = Order(tensors);
        var header = Header(ordered, metadata);
        var length = header.Length + ordered.Sum(tensor => tensor.ByteLength);
        AtomicFile.Write(path, stream => WriteAll(stream, header, ordered), expectedBytes: length);
    }

    /// <summary>Asks for the bytes of tensors in the order in which <see cref="Write"/> does, and drops them: for a process that takes part in making
    /// what another one writes.</summary>
    /// <param name="tensors">The tensors, in any order.</param>
    /// <exception cref="ArgumentException">Two tensors have one name.</exception>
    public static void Drop(IReadOnlyList<TensorToWrite> tensors)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        foreach (var tensor in Order(tensors))
        {
            tensor.WriteBytes(Stream.Null);
        }
    }

    private static TensorToWrite[] Order(IReadOnlyList<TensorToWrite> tensors)
    {
        TensorToWrite[] ordered =
            [.. tensors.OrderByDescending(tensor => tensor.DType).ThenBy(tensor => tensor.Name, CodePointOrder.Instance)];
        var names = new HashSet<string>(StringComparer.Ordinal);
        var twice = ordered.Where(tensor => !names.Add(tensor.Name)).Select(tensor => tensor.Name).Distinct().ToList();
        return twice.Count == 0
            ? ordered
            : throw new ArgumentException($"these tensor names occur more than once: {Wording.List(twice)}", nameof(tensors));
    }

    /// <summary>The header's length and the header, padded.</summary>
    private static byte[] Header(TensorToWrite[] ordered, IReadOnlyDictionary<string, string>? metadata)
    {
        var json = new StringBuilder("{");
        if (metadata is not null)
        {
            AppendMetadata(json, metadata);
        }

        var offset = 0L;
        foreach (var tensor in ordered)
        {
            AppendSeparator(json);
            PythonJson.AppendString(json, tensor.Name, ensureAscii: false);
            var end = checked(offset + tensor.ByteLength);
            json.Append(CultureInfo.InvariantCulture,
                $$""":{"dtype":"{{tensor.DType}}","shape":[{{string.Join(',', tensor.Shape)}}],"data_offsets":[{{offset}},{{end}}]}""");
            offset = end;
        }

        return Frame(json.Append('}').ToString());
    }

    private static void AppendMetadata(StringBuilder json, IReadOnlyDictionary<string, string> metadata)
    {
        PythonJson.AppendString(json, HeaderJson.MetadataName, ensureAscii: false);
        json.Append(":{");
        foreach (var (key, value) in metadata)
        {
            AppendSeparator(json);
            PythonJson.AppendString(json, key, ensureAscii: false);
            json.Append(':');
            PythonJson.AppendString(json, value, ensureAscii: false);
        }

        json.Append('}');
    }

    private static void AppendSeparator(StringBuilder json)
    {
        if (json[^1] != '{')
        {
            json.Append(',');
        }
    }

    private static byte[] Frame(string json)
    {
        const int alignment = 8;
        var length = ByteCount(json);
        var padded = (length + alignment - 1) / alignment * alignment;
        if (padded > SafetensorsHeader.LongestHeader)
        {
            throw new ArgumentException($"the header would have {padded} bytes, more than the format's {SafetensorsHeader.LongestHeader}; "
                + "write fewer tensors to a file");
        }

        var header = new byte[SafetensorsHeader.PrefixLength + padded];
        BinaryPrimitives.WriteInt64LittleEndian(header, padded);
        var text = header.AsSpan(SafetensorsHeader.PrefixLength);
        text[StrictUtf8.GetBytes(json, text)..].Fill((byte)' ');
        return header;
    }

    private static int ByteCount(string json)
    {
        try
        {
            return StrictUtf8.GetByteCount(json);
        }
        catch (EncoderFallbackException error)
        {
            throw new ArgumentException("a tensor's name or a text of the metadata has half of a surrogate pair, which no file can hold", error);
        }
    }

    private static void WriteAll(Stream stream, byte[] header, TensorToWrite[] ordered)
    {
        stream.Write(header);
        foreach (var tensor in ordered)
        {
            using var sink = new TensorStream(stream, tensor, tensor.ByteLength);
            tensor.WriteBytes(sink);
            sink.RequireAll();
        }
    }
}
