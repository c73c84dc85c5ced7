using System.Buffers.Binary;
using System.Text;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>Random choices and the damage that every format can have. One number makes one input, whatever was made before.</summary>
internal sealed class Mutation(int seed)
{
    private static readonly ulong[] s_extremes =
    [
        0, 1, 2, 3, 4, 7, 8, 31, 32, 63, 64, 127, 128, 255, 256, 65535, 65536, 1 << 20, 1 << 24, int.MaxValue - 1, int.MaxValue, 1UL << 31, uint.MaxValue, 1UL << 32,
        1UL << 40, 1UL << 50, (1UL << 62) - 1, long.MaxValue, 1UL << 63, ulong.MaxValue - 1, ulong.MaxValue,
    ];

    private readonly Random _random = new(seed);

    public int Next(int below) => _random.Next(below);

    public bool OneIn(int count) => _random.Next(count) == 0;

    public T Of<T>(IReadOnlyList<T> items) => items[_random.Next(items.Count)];

    public ulong Extreme() => s_extremes[_random.Next(s_extremes.Length)];

    /// <summary>A few changes of single bytes, cuts and repeats, wherever they fall.</summary>
    public byte[] Bytes(byte[] good)
    {
        var bytes = good.ToList();
        for (var i = 1 + Next(4); i > 0 && bytes.Count > 0; i--)
        {
            var at = Next(bytes.Count);
            var length = Math.Min(1 + Next(24), bytes.Count - at);
            switch (Next(6))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)Next(256);
                    break;
                case 2:
                    bytes.RemoveRange(at, length);
                    break;
                case 3:
                    bytes.InsertRange(Next(bytes.Count), bytes.GetRange(at, length));
                    break;
                case 4:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                default:
                    Put(bytes, at, Extreme(), OneIn(2) ? 4 : 8);
                    break;
            }
        }

        return [.. bytes];
    }

    /// <summary>A few changes of a text: pieces of its language put in, cut out, repeated and moved.</summary>
    public string Text(string good, IReadOnlyList<string> words, int most = 5)
    {
        var text = new StringBuilder(good);
        for (var i = 1 + Next(most); i > 0; i--)
        {
            var at = Next(text.Length + 1);
            var length = Math.Min(Next(24), text.Length - at);
            switch (Next(6))
            {
                case 0:
                    _ = text.Remove(at, length);
                    break;
                case 1:
                    _ = text.Insert(Next(text.Length + 1), text.ToString(at, length));
                    break;
                case 2 when OneIn(40):
                    _ = text.Insert(at, Many(Of(words)));
                    break;
                case 3:
                    _ = text.Remove(at, length).Insert(at, Of(words));
                    break;
                default:
                    _ = text.Insert(at, Of(words));
                    break;
            }
        }

        return text.ToString();
    }

    /// <summary>Bytes of a text; now and then not quite UTF-8.</summary>
    public byte[] Utf8(string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        return OneIn(12) ? Bytes(bytes) : bytes;
    }

    /// <summary>A piece many times over, for whatever counts or nests.</summary>
    public string Many(string piece) => new StringBuilder().Insert(0, piece, Of((int[])[30, 70, 130, 700, 3000])).ToString();

    private static void Put(List<byte> bytes, int at, ulong value, int size)
    {
        Span<byte> raw = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(raw, value);
        for (var i = 0; i < size && at + i < bytes.Count; i++)
        {
            bytes[at + i] = raw[i];
        }
    }
}
