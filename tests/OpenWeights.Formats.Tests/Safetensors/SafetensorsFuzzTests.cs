using System.Buffers.Binary;
using System.Text;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Formats.Tests.Support;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Safetensors;

/// <summary>Damaged files of every kind: they are refused with <see cref="InvalidDataException"/>,
/// or all their bytes can be read.</summary>
public sealed class SafetensorsFuzzTests
{
    private const int Rounds = 1000;

    private static readonly string[] Splices =
    [
        "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud83d", "null", "true", "-", "0", "9", "1e9",
        "18446744073709551615", "9223372036854775807",
        "__metadata__", "dtype", "shape", "data_offsets", "F32", "F4", "C64", "\u0000", "\u00e9", "\"a\":{},", "[[[[", " ",
    ];

    private TemporaryFolder folder = null!;
    private int refused;
    private int read;

    [SetUp]
    public void CreateFolder()
    {
        folder = new TemporaryFolder();
        refused = 0;
        read = 0;
    }

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void Flipped_bytes_are_refused_or_read()
    {
        Fuzz(1, (random, bytes) =>
        {
            for (var flips = random.Next(1, 4); flips > 0; flips--)
            {
                bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
            }

            return bytes;
        });

        Assert.That((refused, read), Is.EqualTo((Rounds - read, read)));
        Assert.That(refused, Is.GreaterThan(Rounds / 20));
        Assert.That(read, Is.GreaterThan(Rounds / 20));
    }

    [Test]
    public void A_flip_within_the_data_alone_changes_nothing_but_that_byte()
    {
        var valid = Valid();
        var dataStart = 8 + (int)BinaryPrimitives.ReadInt64LittleEndian(valid);
        var random = new Random(2);
        for (var round = 0; round < 100; round++)
        {
            var at = random.Next(dataStart, valid.Length);
            byte[] flipped = [.. valid];
            flipped[at] ^= 0x10;
            Assert.That(ReadAll(flipped), Is.EqualTo(flipped[dataStart..]));
        }
    }

    [Test]
    public void Every_truncation_is_refused()
    {
        var valid = Valid();
        for (var length = 0; length < valid.Length; length++)
        {
            Assert.That(ReadAll(valid[..length]), Is.Null, $"{length} of {valid.Length} bytes");
        }
    }

    [Test]
    public void Rewritten_headers_are_refused_or_read()
    {
        Fuzz(3, (random, bytes) =>
        {
            var headerLength = (int)BinaryPrimitives.ReadInt64LittleEndian(bytes);
            var header = Encoding.UTF8.GetString(bytes, 8, headerLength);
            for (var edits = random.Next(1, 4); edits > 0; edits--)
            {
                var at = random.Next(header.Length);
                var removed = Math.Min(random.Next(0, 12), header.Length - at);
                header = header.Remove(at, removed).Insert(at, random.Next(3) == 0 ? "" : Splices[random.Next(Splices.Length)]);
            }

            var data = bytes.AsSpan(8 + headerLength).ToArray();
            byte[] rewritten = [.. RawFile.Bytes(header), .. data];
            return rewritten;
        });

        Assert.That(refused, Is.GreaterThan(Rounds / 2));
    }

    [Test]
    public void Rewritten_numbers_are_refused_or_read()
    {
        long[] extremes = [0, 1, 2, 3, 4, 7, 8, 12, 16, 24, 255, int.MaxValue, (long)int.MaxValue + 1, 1L << 32, (1L << 62) - 1,
            long.MaxValue];
        Fuzz(4, (random, _) =>
        {
            long Sometimes(long valid) => random.Next(8) == 0 ? extremes[random.Next(extremes.Length)] : valid;
            var place = 0;
            var entries = new List<string>();
            for (var i = random.Next(1, 4); i > 0; i--)
            {
                var size = random.Next(9);
                entries.Add(RawFile.Tensor(
                    $"t{i}", random.Next(8) == 0 ? "F32" : "I8", $"{Sometimes(size)},{Sometimes(1)}", Sometimes(place),
                        Sometimes(place + size)));
                place += size;
            }

            return RawFile.Bytes(RawFile.Header([.. entries]), (int)Math.Min(Sometimes(place), 100));
        });

        Assert.That(refused, Is.GreaterThan(Rounds / 2));
        Assert.That(read, Is.GreaterThan(Rounds / 20));
    }

    [Test]
    public void Random_bytes_are_refused()
    {
        Fuzz(5, (random, _) =>
        {
            var bytes = new byte[random.Next(200)];
            random.NextBytes(bytes);
            if (bytes.Length >= 8 && random.Next(2) == 0)
            {
                BinaryPrimitives.WriteInt64LittleEndian(bytes, random.Next(bytes.Length));
            }

            return bytes;
        });

        Assert.That(refused, Is.EqualTo(Rounds));
    }

    private void Fuzz(int seed, Func<Random, byte[], byte[]> damage)
    {
        var random = new Random(seed);
        var valid = Valid();
        for (var round = 0; round < Rounds; round++)
        {
            _ = ReadAll(damage(random, [.. valid])) is null ? refused++ : read++;
        }

        TestContext.Out.WriteLine($"{refused} refused, {read} read");
    }

    /// <summary>All tensors' bytes one after another; null where the file is refused.</summary>
    private byte[]? ReadAll(byte[] bytes)
    {
        var path = folder["fuzz.safetensors"];
        File.WriteAllBytes(path, bytes);
        try
        {
            using var file = SafetensorsFile.Open(path);
            var all = new List<byte>();
            foreach (var tensor in file.Tensors)
            {
                all.AddRange(file.ReadBytes(tensor.Name));
            }

            return [.. all];
        }
        catch (InvalidDataException refusal)
        {
            Assert.That(refusal.Message, Does.StartWith(path));
            return null;
        }
    }

    private static byte[] Valid() => RawFile.Bytes(
        RawFile.Header(
            """
            "__metadata__":{"format":"pt","\u00fcber":"n\u00f6"}
            """,
            RawFile.Tensor("model.embed.weight", "F32", "3,2", 0, 24),
            RawFile.Tensor("model.norm.weight", "BF16", "4", 24, 32),
            RawFile.Tensor("none", "U8", "0", 32, 32),
            RawFile.Tensor("ids", "I64", "", 32, 40),
            RawFile.Tensor("mx", "F4", "2,8", 40, 48)),
        48);
}
