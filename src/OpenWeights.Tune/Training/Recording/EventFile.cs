using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>
/// A TensorBoard event file: records of length, masked CRC-32C, an Event message and its masked CRC-32C (tensorflow's record_writer.h and
/// event.proto). Scalars need only five fields, so they are written here without a library.
/// </summary>
internal sealed class EventFile : IDisposable
{
    private const string Prefix = "events.out.tfevents.";

    private static readonly Dictionary<string, string> s_tags = new()
    {
        ["loss"] = "train/loss",
        ["learning_rate"] = "train/learning_rate",
        ["grad_norm"] = "train/grad_norm",
        ["tokens_per_second"] = "train/tokens_per_second",
        ["peak_memory_bytes"] = "train/peak_memory_bytes",
        ["eval_loss"] = "eval/loss",
        ["eval_perplexity"] = "eval/perplexity",
        ["eval_token_accuracy"] = "eval/token_accuracy",
        ["eval_exact_match"] = "eval/exact_match",
        ["eval_chrf"] = "eval/chrf",
        ["eval_bleu"] = "eval/bleu",
    };

    private readonly FileStream _stream;

    /// <summary>Creates the file of a run, replacing those of its earlier parts.</summary>
    /// <param name="folder">The run's folder.</param>
    /// <param name="lines">The metrics of completed steps.</param>
    public EventFile(string folder, IEnumerable<JsonObject> lines)
    {
        ArgumentNullException.ThrowIfNull(lines);
        foreach (var earlier in Directory.EnumerateFiles(folder, Prefix + "*"))
        {
            File.Delete(earlier);
        }

        var name = string.Create(CultureInfo.InvariantCulture, $"{Prefix}{DateTimeOffset.UtcNow.ToUnixTimeSeconds():D10}.{Environment.MachineName}");
        _stream = new FileStream(Path.Combine(folder, name), FileMode.Create, FileAccess.Write, FileShare.Read);
        Write(Event(0, 3, "brain.Event:2"u8));
        foreach (var line in lines)
        {
            Add(line);
        }
    }

    /// <summary>Adds the numbers of a line of metrics.jsonl that TensorBoard shows.</summary>
    /// <param name="line">The line.</param>
    public void Add(JsonObject line)
    {
        ArgumentNullException.ThrowIfNull(line);
        var step = line["step"]?.GetValue<long>() ?? 0;
        var summary = new MemoryStream();
        foreach (var (key, node) in line)
        {
            // Names with a slash are those of an objective, which are TensorBoard's groups already.
            if (node is JsonValue number && number.GetValueKind() == JsonValueKind.Number && (s_tags.GetValueOrDefault(key) ?? (key.Contains('/', StringComparison.Ordinal) ? key : null)) is { } tag)
            {
                var value = new MemoryStream();
                Bytes(value, 1, Encoding.UTF8.GetBytes(tag));
                Fixed32(value, 2, (float)number.GetValue<double>());
                Bytes(summary, 1, value.ToArray());
            }
        }

        if (summary.Length > 0)
        {
            Write(Event(step, 5, summary.ToArray()));
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    // Event: wall_time = 1 (double), step = 2 (varint), file_version = 3 or summary = 5.
    private static byte[] Event(long step, int field, ReadOnlySpan<byte> content)
    {
        var message = new MemoryStream();
        Span<byte> time = stackalloc byte[8];
        BinaryPrimitives.WriteDoubleLittleEndian(time, DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1000.0);
        Varint(message, (1 << 3) | 1);
        message.Write(time);
        Varint(message, 2 << 3);
        Varint(message, (ulong)step);
        Bytes(message, field, content);
        return message.ToArray();
    }

    private static void Bytes(MemoryStream message, int field, ReadOnlySpan<byte> content)
    {
        Varint(message, ((ulong)field << 3) | 2);
        Varint(message, (ulong)content.Length);
        message.Write(content);
    }

    private static void Fixed32(MemoryStream message, int field, float number)
    {
        Varint(message, ((ulong)field << 3) | 5);
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteSingleLittleEndian(bytes, number);
        message.Write(bytes);
    }

    private static void Varint(MemoryStream message, ulong number)
    {
        for (; number >= 0x80; number >>= 7)
        {
            message.WriteByte((byte)(number | 0x80));
        }

        message.WriteByte((byte)number);
    }

    private void Write(byte[] message)
    {
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, message.Length);
        _stream.Write(length);
        Checksum(length);
        _stream.Write(message);
        Checksum(message);
        _stream.Flush();
    }

    private void Checksum(ReadOnlySpan<byte> bytes)
    {
        var crc = uint.MaxValue;
        foreach (var b in bytes)
        {
            crc = BitOperations.Crc32C(crc, b);
        }

        Span<byte> masked = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(masked, BitOperations.RotateRight(~crc, 15) + 0xA282EAD8);
        _stream.Write(masked);
    }
}
