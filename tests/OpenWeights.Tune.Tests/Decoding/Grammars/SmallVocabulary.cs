using System.Text;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Tests.Decoding.Grammars;

/// <summary>A vocabulary of a few hundred tokens: bytes, pieces of JSON, and pieces that end in the middle of a character.</summary>
internal static class SmallVocabulary
{
    internal const int End = 0;

    // Bytes of é, Ü, 漢 and 😀; no combination of them is a combining character, which some count together with the one before.
    private static readonly byte[] s_high = [0xC3, 0xA9, 0x9C, 0xE6, 0xBC, 0xA2, 0xF0, 0x9F, 0x98, 0x80];

    private static readonly byte[][] s_tokens =
    [
        [],
        .. Enumerable.Range(0, 128).Select(static b => new[] { (byte)b }),
        .. s_high.Select(static b => new[] { b }),
        .. new[]
        {
            "{\"", "\":", "\": ", "\": \"", "\",", "\", \"", "\"}", "\"]", "}}", "]}", "},", "],", "[[", "[{", "{\n", "\n  ", "\n    ", "  ", ", ", ",\n", "true", "false", "null", "tr", "ue", "nul",
            "12", "123", "00", "1.5", "-1", "e+1", "E5", "0.", ".0", "name", "age", "ab", "abc", "hello", " world", "\\n", "\\\"", "\\u", "\\u00", "\\ud83d", "\\ude00", "00e9", "é", "漢字", "😀", "a😀", "\"é",
        }.Select(Encoding.UTF8.GetBytes),
        [(byte)'a', 0xF0], [0x9F, 0x98], [0x80, (byte)'"'], [0xA9, (byte)'"', (byte)','],
    ];

    internal static TokenVocabulary Vocabulary { get; } = TokenVocabulary.Of(s_tokens);

    internal static int Size => s_tokens.Length;

    internal static byte[] BytesOf(int token) => s_tokens[token];

    /// <summary>The tokens of a text, each chosen at random among those that fit.</summary>
    internal static IEnumerable<int> Split(string text, Random random)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        for (var at = 0; at < bytes.Length;)
        {
            var fitting = Enumerable.Range(1, Size - 1).Where(t => bytes.AsSpan(at).StartsWith(s_tokens[t])).ToList();
            var token = fitting[random.Next(fitting.Count)];
            yield return token;
            at += s_tokens[token].Length;
        }
    }
}
