using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace OpenWeights.Formats.Gguf;

/// <summary>Reads and writes metadata values.</summary>
internal static class GgufValues
{
    private static readonly Type[] Types =
    [
        typeof(byte), typeof(sbyte), typeof(ushort), typeof(short), typeof(uint), typeof(int), typeof(float), typeof(bool), typeof(string),
        typeof(Array), typeof(ulong), typeof(long), typeof(double),
    ];

    /// <summary>The GGUF type of a value.</summary>
    /// <exception cref="ArgumentException">GGUF has no type for it.</exception>
    public static GgufValueType TypeOf(object value) =>
        value is Array array ? ElementType(array) is not null ? GgufValueType.Array : throw Unknown(value) : Plain(value.GetType()) ?? throw Unknown(value);

    /// <summary>Writes a value's type and the value.</summary>
    public static void Write(Stream stream, object value)
    {
        var type = TypeOf(value);
        WriteUInt32(stream, (uint)type);
        if (value is not Array array)
        {
            WriteBare(stream, type, value);
            return;
        }

        var element = ElementType(array)!.Value;
        WriteUInt32(stream, (uint)element);
        WriteUInt64(stream, (ulong)array.Length);
        foreach (var item in array)
        {
            WriteBare(stream, element, item);
        }
    }

    public static void WriteText(Stream stream, string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        WriteUInt64(stream, (ulong)bytes.Length);
        stream.Write(bytes);
    }

    public static void WriteUInt32(Stream stream, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        stream.Write(bytes);
    }

    public static void WriteUInt64(Stream stream, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        stream.Write(bytes);
    }

    /// <summary>Reads a value's type and the value.</summary>
    public static object Read(GgufCursor cursor, string key)
    {
        var type = ReadType(cursor, key);
        if (type != GgufValueType.Array)
        {
            return ReadBare(cursor, type);
        }

        var element = ReadType(cursor, key);
        if (element == GgufValueType.Array)
        {
            throw cursor.Error($"the key {Wording.Quote(key)} holds arrays of arrays, which cannot be read");
        }

        return ReadArray(cursor, element, $"the array {Wording.Quote(key)}");
    }

    private static Array ReadArray(GgufCursor cursor, GgufValueType element, string what) => element switch
    {
        GgufValueType.UInt8 => Plain<byte>(cursor, what),
        GgufValueType.Int8 => Plain<sbyte>(cursor, what),
        GgufValueType.UInt16 => Plain<ushort>(cursor, what),
        GgufValueType.Int16 => Plain<short>(cursor, what),
        GgufValueType.UInt32 => Plain<uint>(cursor, what),
        GgufValueType.Int32 => Plain<int>(cursor, what),
        GgufValueType.Float32 => Plain<float>(cursor, what),
        GgufValueType.Bool => Array.ConvertAll(Plain<byte>(cursor, what), static value => value != 0),
        GgufValueType.UInt64 => Plain<ulong>(cursor, what),
        GgufValueType.Int64 => Plain<long>(cursor, what),
        GgufValueType.Float64 => Plain<double>(cursor, what),
        _ => Texts(cursor, what),
    };

    /// <summary>Numbers as they lie in the file: all systems that .NET runs on here are little-endian, as the format is.</summary>
    private static T[] Plain<T>(GgufCursor cursor, string what)
        where T : unmanaged
    {
        var values = new T[cursor.Count(System.Runtime.CompilerServices.Unsafe.SizeOf<T>(), what)];
        cursor.Fill(MemoryMarshal.AsBytes(values.AsSpan()));
        return values;
    }

    // Each text has at least its length.
    private static string[] Texts(GgufCursor cursor, string what)
    {
        var texts = new string[cursor.Count(8, what)];
        for (var i = 0; i < texts.Length; i++)
        {
            texts[i] = cursor.Text();
        }

        return texts;
    }

    private static GgufValueType ReadType(GgufCursor cursor, string key)
    {
        var number = cursor.UInt32();
        return number < Types.Length ? (GgufValueType)number : throw cursor.Error($"the key {Wording.Quote(key)} has the value type {number}, which the format does not have");
    }

    private static object ReadBare(GgufCursor cursor, GgufValueType type) => type switch
    {
        GgufValueType.UInt8 => cursor.Take(1)[0],
        GgufValueType.Int8 => (sbyte)cursor.Take(1)[0],
        GgufValueType.UInt16 => BinaryPrimitives.ReadUInt16LittleEndian(cursor.Take(2)),
        GgufValueType.Int16 => BinaryPrimitives.ReadInt16LittleEndian(cursor.Take(2)),
        GgufValueType.UInt32 => cursor.UInt32(),
        GgufValueType.Int32 => (int)cursor.UInt32(),
        GgufValueType.Float32 => BinaryPrimitives.ReadSingleLittleEndian(cursor.Take(4)),
        GgufValueType.Bool => cursor.Take(1)[0] != 0,
        GgufValueType.String => cursor.Text(),
        GgufValueType.UInt64 => cursor.UInt64(),
        GgufValueType.Int64 => (long)cursor.UInt64(),
        _ => BinaryPrimitives.ReadDoubleLittleEndian(cursor.Take(8)),
    };

    private static void WriteBare(Stream stream, GgufValueType type, object value)
    {
        if (type == GgufValueType.String)
        {
            WriteText(stream, (string)value);
            return;
        }

        Span<byte> bytes = stackalloc byte[8];
        stream.Write(bytes[..Store(bytes, value)]);
    }

    private static int Store(Span<byte> bytes, object value)
    {
        switch (value)
        {
            case bool flag: return Store(bytes, flag ? (byte)1 : (byte)0);
            case byte number: return Store(bytes, number);
            case sbyte number: return Store(bytes, number);
            case ushort number: return Store(bytes, number);
            case short number: return Store(bytes, number);
            case uint number: return Store(bytes, number);
            case int number: return Store(bytes, number);
            case float number: return Store(bytes, number);
            case ulong number: return Store(bytes, number);
            case long number: return Store(bytes, number);
            default: return Store(bytes, (double)value);
        }
    }

    /// <summary>All systems that .NET runs on here are little-endian, as the format is.</summary>
    private static int Store<T>(Span<byte> bytes, T value)
        where T : unmanaged
    {
        MemoryMarshal.Write(bytes, in value);
        return System.Runtime.CompilerServices.Unsafe.SizeOf<T>();
    }

    private static GgufValueType? ElementType(Array array) => array.Rank == 1 && Plain(array.GetType().GetElementType()!) is { } type ? type : null;

    private static GgufValueType? Plain(Type type) => Array.IndexOf(Types, type) is >= 0 and var number && type != typeof(Array) ? (GgufValueType)number : null;

    private static ArgumentException Unknown(object value) => new($"a GGUF file cannot hold a {value.GetType().Name}", nameof(value));
}

/// <summary>Types of metadata values, with the format's numbers (<see href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"/>).</summary>
internal enum GgufValueType
{
    /// <summary>Unsigned byte.</summary>
    UInt8 = 0,

    /// <summary>Signed byte.</summary>
    Int8 = 1,

    /// <summary>Unsigned 16-bit integer.</summary>
    UInt16 = 2,

    /// <summary>Signed 16-bit integer.</summary>
    Int16 = 3,

    /// <summary>Unsigned 32-bit integer.</summary>
    UInt32 = 4,

    /// <summary>Signed 32-bit integer.</summary>
    Int32 = 5,

    /// <summary>Single-precision float.</summary>
    Float32 = 6,

    /// <summary>A truth value in a byte.</summary>
    Bool = 7,

    /// <summary>UTF-8 text.</summary>
    String = 8,

    /// <summary>Values of one type.</summary>
    Array = 9,

    /// <summary>Unsigned 64-bit integer.</summary>
    UInt64 = 10,

    /// <summary>Signed 64-bit integer.</summary>
    Int64 = 11,

    /// <summary>Double-precision float.</summary>
    Float64 = 12,
}
