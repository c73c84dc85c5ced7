using System.Text.Json;

using NUnit.Framework;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>What the reference answers for a text.</summary>
internal sealed record GoldenCase(string Text, int[] Ids, int[] IdsWithSpecial, string? Decoded, string? DecodedSkipSpecial)
{
    /// <summary>Reads a case of a file in the form of the goldens.</summary>
    public static GoldenCase Read(JsonElement element)
    {
        var ids = Ints(element.GetProperty("ids"));
        return new GoldenCase(
            element.GetProperty("text").GetString()!,
            ids,
            element.TryGetProperty("ids_with_special", out var special) ? Ints(special) : ids,
            element.TryGetProperty("decoded", out var decoded) ? decoded.GetString() : null,
            element.TryGetProperty("decoded_skip_special", out var skipped) ? skipped.GetString() : null);
    }

    /// <summary>The numbers of a JSON array.</summary>
    public static int[] Ints(JsonElement element) => [.. element.EnumerateArray().Select(e => e.GetInt32())];

    /// <summary>Fails with every sentence of the list.</summary>
    public static void ExpectNone(List<string> differences) =>
        Assert.That(differences, Is.Empty, () => $"{differences.Count} differ:\n" + string.Join('\n', differences.Take(10)));

    /// <summary>A text for a message.</summary>
    public static string Show(string? text) => JsonSerializer.Serialize(text);

    /// <summary>Ids for a message.</summary>
    public static string Show(IEnumerable<int> ids, Tokenizer tokenizer) =>
        string.Join(' ', ids.Select(id => $"{id}:{tokenizer.IdToToken(id)}"));

    /// <summary>Adds what differs in encoding and, where <paramref name="decodesWithSpecial"/> says so of which ids, in decoding.</summary>
    public void Compare(Tokenizer tokenizer, bool decodesWithSpecial, List<string> differences)
    {
        Same(tokenizer, "ids", tokenizer.Encode(Text, addSpecialTokens: false), Ids, differences);
        Same(tokenizer, "ids with offsets", [.. tokenizer.EncodeWithOffsets(Text, addSpecialTokens: false).Select(t => t.Id)], Ids, differences);
        Same(tokenizer, "ids with special tokens", tokenizer.Encode(Text, addSpecialTokens: true), IdsWithSpecial, differences);
        var decoded = decodesWithSpecial ? IdsWithSpecial : Ids;
        Same("decoded", tokenizer.Decode(decoded.AsSpan(), skipSpecialTokens: false), Decoded, differences);
        Same("decoded without special tokens", tokenizer.Decode(decoded.AsSpan(), skipSpecialTokens: true), DecodedSkipSpecial, differences);
    }

    private void Same(Tokenizer tokenizer, string what, int[] got, int[] wanted, List<string> differences)
    {
        if (!got.SequenceEqual(wanted))
        {
            differences.Add($"{what} of {Show(Text)}: {Show(got, tokenizer)} instead of {Show(wanted, tokenizer)}");
        }
    }

    private void Same(string what, string got, string? wanted, List<string> differences)
    {
        if (wanted is not null && got != wanted)
        {
            differences.Add($"{what} of {Show(Text)}: {Show(got)} instead of {Show(wanted)}");
        }
    }
}
