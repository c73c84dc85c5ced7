using System.Collections;
using System.Globalization;

namespace OpenWeights.Formats.Gguf;

/// <summary>
/// The keys and values of a GGUF file, in order. A value is a <see cref="byte"/>, <see cref="sbyte"/>, <see cref="ushort"/>,
/// <see cref="short"/>, <see cref="uint"/>, <see cref="int"/>, <see cref="float"/>, <see cref="bool"/>, <see cref="string"/>,
/// <see cref="ulong"/>, <see cref="long"/>, <see cref="double"/>, or an array of one of them; it is written as exactly that type.
/// </summary>
public sealed class GgufMetadata : IEnumerable<KeyValuePair<string, object>>
{
    private readonly List<KeyValuePair<string, object>> values = [];
    private readonly Dictionary<string, object> byKey = new(StringComparer.Ordinal);

    /// <summary>An empty list of keys.</summary>
    /// <param name="location">The file, for messages.</param>
    public GgufMetadata(string location) => Location = location;

    /// <summary>The file that the values are of, for messages.</summary>
    public string Location { get; }

    /// <summary>The number of keys.</summary>
    public int Count => values.Count;

    /// <summary>Adds a key.</summary>
    /// <param name="key">The key.</param>
    /// <param name="value">The value, of one of the types that the class names.</param>
    /// <exception cref="ArgumentException">The key is there already, or the value's type is none of the format's.</exception>
    public void Add(string key, object value)
    {
        ArgumentNullException.ThrowIfNull(value);
        _ = GgufValues.TypeOf(value);
        if (!byKey.TryAdd(key, value))
        {
            throw new ArgumentException($"the key {Wording.Quote(key)} is there already", nameof(key));
        }

        values.Add(KeyValuePair.Create(key, value));
    }

    /// <summary>Adds all keys of another list.</summary>
    /// <param name="other">The list.</param>
    public void AddAll(GgufMetadata other)
    {
        ArgumentNullException.ThrowIfNull(other);
        foreach (var (key, value) in other)
        {
            Add(key, value);
        }
    }

    /// <summary>Whether there is a key.</summary>
    /// <param name="key">The key.</param>
    public bool Contains(string key) => byKey.ContainsKey(key);

    /// <summary>A value as stored in the file; null if absent.</summary>
    /// <param name="key">The key.</param>
    public object? Find(string key) => byKey.GetValueOrDefault(key);

    /// <summary>A text; null if absent.</summary>
    /// <param name="key">The key.</param>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public string? Text(string key) => Find(key) is { } value ? value as string ?? throw Wrong(key, "a text", value) : null;

    /// <summary>A number; null if absent.</summary>
    /// <param name="key">The key.</param>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public double? Number(string key) => Find(key) switch
    {
        null => null,
        string or bool or Array => throw Wrong(key, "a number", Find(key)!),
        var value => Convert.ToDouble(value, CultureInfo.InvariantCulture) is var number && double.IsFinite(number) ? number : throw Wrong(key, "a finite number", value),
    };

    /// <summary>A whole number; null if absent.</summary>
    /// <param name="key">The key.</param>
    /// <exception cref="InvalidDataException">The value is something else, or out of range.</exception>
    public int? Int(string key) => Number(key) switch
    {
        null => null,
        var value when value == Math.Floor(value.Value) && Math.Abs(value.Value) <= int.MaxValue => (int)value,
        _ => throw Wrong(key, "a whole number", Find(key)!),
    };

    /// <summary>Whole numbers, one or an array of them; null if absent.</summary>
    /// <param name="key">The key.</param>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public IReadOnlyList<int>? Ints(string key) => Find(key) switch
    {
        uint[] values => Array.ConvertAll(values, value => value <= int.MaxValue ? (int)value : throw Wrong(key, "whole numbers", values)),
        int[] values => values,
        _ => Int(key) is { } one ? [one] : null,
    };

    /// <summary>A boolean; null if absent.</summary>
    /// <param name="key">The key.</param>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public bool? Flag(string key) => Find(key) is { } value ? value as bool? ?? throw Wrong(key, "true or false", value) : null;

    /// <summary>An array; null if absent.</summary>
    /// <typeparam name="T">The type of its values, exactly.</typeparam>
    /// <param name="key">The key.</param>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public IReadOnlyList<T>? List<T>(string key) => Find(key) is { } value ? value as T[] ?? throw Wrong(key, $"an array of {typeof(T).Name}", value) : null;

    /// <summary>An error about a key that is missing or wrong.</summary>
    /// <param name="key">The key.</param>
    /// <param name="problem">What is wrong.</param>
    public InvalidDataException Error(string key, string problem) => new($"{Location}: {key}: {problem}");

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, object>> GetEnumerator() => values.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private InvalidDataException Wrong(string key, string wanted, object value) =>
        Error(key, $"{wanted} is expected, not {(value is Array array ? $"an array of {array.Length}" : value)}.");
}
