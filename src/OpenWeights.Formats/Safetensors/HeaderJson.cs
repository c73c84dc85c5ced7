using System.Text.Json;
using System.Text.Unicode;

namespace OpenWeights.Formats.Safetensors;

/// <summary>Reads the JSON of a safetensors header. Every fault is a <see cref="FormatException"/> whose message is a clause for
/// the caller's sentence.</summary>
internal ref struct HeaderJson
{
    public const string MetadataName = "__metadata__";

    private Utf8JsonReader reader;
    private readonly HashSet<string> names = new(StringComparer.Ordinal);
    private readonly List<HeaderTensor> tensors = [];
    private OrderedDictionary<string, string>? metadata;

    private HeaderJson(ReadOnlySpan<byte> json) => reader = new Utf8JsonReader(json);

    /// <summary>The tensors in the header's order, and the metadata where there is any.</summary>
    public static (List<HeaderTensor> Tensors, OrderedDictionary<string, string>? Metadata) Parse(ReadOnlySpan<byte> json)
    {
        if (!Utf8.IsValid(json))
        {
            throw new FormatException("the header is not valid UTF-8");
        }

        try
        {
            var header = new HeaderJson(json);
            header.ReadRoot();
            return (header.tensors, header.metadata);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            // InvalidOperationException: an escaped half of a surrogate pair in a string.
            throw new FormatException("the header is not valid JSON", error);
        }
    }

    private void ReadRoot()
    {
        _ = reader.Read();
        Expect(JsonTokenType.StartObject, "the header is not a JSON object");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var name = reader.GetString()!;
            if (!names.Add(name))
            {
                throw new FormatException($"the header names {Wording.Quote(name)} twice");
            }

            _ = reader.Read();
            if (name == MetadataName)
            {
                ReadMetadata();
            }
            else
            {
                tensors.Add(ReadTensor(name));
            }
        }

        // Reading past the closing brace makes the reader reject anything but white space after it.
        _ = reader.Read();
    }

    private void ReadMetadata()
    {
        if (reader.TokenType == JsonTokenType.Null)
        {
            return;
        }

        Expect(JsonTokenType.StartObject, $"{MetadataName} is not an object");
        metadata = new OrderedDictionary<string, string>(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            _ = reader.Read();
            Expect(JsonTokenType.String, $"the value of {Wording.Quote(key)} in {MetadataName} is not a string");
            if (!metadata.TryAdd(key, reader.GetString()!))
            {
                throw new FormatException($"{MetadataName} names {Wording.Quote(key)} twice");
            }
        }
    }

    private HeaderTensor ReadTensor(string name)
    {
        Expect(JsonTokenType.StartObject, $"the entry of the tensor {Wording.Quote(name)} is not an object");
        DType? dtype = null;
        long[]? shape = null;
        long[]? offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var field = reader.GetString()!;
            _ = reader.Read();
            switch (field)
            {
                case "dtype" when dtype is null:
                    dtype = ReadDType(name);
                    break;
                case "shape" when shape is null:
                    shape = ReadNumbers(name, field);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ReadNumbers(name, field);
                    break;
                case "dtype" or "shape" or "data_offsets":
                    throw new FormatException($"the tensor {Wording.Quote(name)} has {field} twice");
                default:
                    reader.Skip();
                    break;
            }
        }

        return new HeaderTensor(
            name,
            dtype ?? throw Missing(name, "dtype"),
            shape ?? throw Missing(name, "shape"),
            (offsets ?? throw Missing(name, "data_offsets")) is [var start, _] ? start : throw new FormatException(
                $"data_offsets of the tensor {Wording.Quote(name)} are {offsets.Length} numbers and not two"),
            offsets[1]);
    }

    private DType ReadDType(string tensor)
    {
        Expect(JsonTokenType.String, $"the dtype of the tensor {Wording.Quote(tensor)} is not a string");
        var name = reader.GetString()!;
        return DTypeExtensions.TryParse(name, out var dtype)
            ? dtype
            : throw new FormatException(
                $"the tensor {Wording.Quote(tensor)} has the dtype {Wording.Quote(name)}, which the format does not have");
    }

    private long[] ReadNumbers(string tensor, string field)
    {
        Expect(JsonTokenType.StartArray, $"{field} of the tensor {Wording.Quote(tensor)} is not an array");
        var numbers = new List<long>(4);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out var number) || number < 0)
            {
                throw new FormatException(
                    $"{field} of the tensor {Wording.Quote(tensor)} has a value that is not a whole number from 0 to 2^63 - 1");
            }

            numbers.Add(number);
        }

        return [.. numbers];
    }

    private readonly void Expect(JsonTokenType type, string otherwise)
    {
        if (reader.TokenType != type)
        {
            throw new FormatException(otherwise);
        }
    }

    private static FormatException Missing(string tensor, string field) => new($"the tensor {Wording.Quote(tensor)} has no {field}");
}

/// <summary>A tensor as the header's JSON has it, its numbers not yet held against each other or the file.</summary>
/// <param name="Name">The name.</param>
/// <param name="DType">The element type.</param>
/// <param name="Shape">The dimensions, none negative.</param>
/// <param name="Start">The first byte, counted from the end of the header.</param>
/// <param name="End">The byte after the last.</param>
internal sealed record HeaderTensor(string Name, DType DType, long[] Shape, long Start, long End);
