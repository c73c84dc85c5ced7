using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Trains a byte-level BPE tokenizer from texts (Sennrich, Haddow and Birch, 2016, arXiv:1508.07909; byte level after GPT-2): the
/// most frequent pair of neighbouring symbols becomes a token, again and again.
/// </summary>
/// <remarks>
/// Texts are cut with the split pattern of Qwen 2, which keeps digits apart one by one. The result depends only on how often words
/// occur, not on the order of the texts: of equally frequent pairs the one with the smaller left id, then the smaller right id, comes
/// first, as in Hugging Face's trainer. Ids: special tokens, then the 256 bytes in the order of the characters that stand for them,
/// then the tokens of the merges.
/// </remarks>
public static class BpeTrainer
{
    private const int Bytes = 256;

    /// <summary>Trains a tokenizer.</summary>
    /// <param name="texts">The texts. Special tokens in them are left out.</param>
    /// <param name="vocabularySize">How many tokens at most, special tokens and the 256 bytes included.</param>
    /// <param name="specialTokens">The special tokens, whose ids are their places.</param>
    /// <param name="minimumCount">Pairs that occur less often do not merge, so that the vocabulary may stay smaller.</param>
    /// <returns>A tokenizer.json, which <see cref="Tokenizer.Load"/> and Hugging Face's libraries read.</returns>
    /// <exception cref="ArgumentException">The vocabulary has no room for the bytes, or special tokens are empty or repeated.</exception>
    public static string Train(IEnumerable<string> texts, int vocabularySize, IReadOnlyList<string> specialTokens, int minimumCount = 2)
    {
        ArgumentNullException.ThrowIfNull(texts);
        ArgumentNullException.ThrowIfNull(specialTokens);
        ArgumentOutOfRangeException.ThrowIfLessThan(minimumCount, 1);
        if (vocabularySize < Bytes + specialTokens.Count)
        {
            throw new ArgumentException(
                $"A vocabulary of {vocabularySize} tokens has no room for {Bytes} bytes and {specialTokens.Count} special tokens.", nameof(vocabularySize));
        }

        if (specialTokens.Any(string.IsNullOrEmpty) || specialTokens.Distinct(StringComparer.Ordinal).Count() < specialTokens.Count)
        {
            throw new ArgumentException("Special tokens must not be empty or repeated.", nameof(specialTokens));
        }

        var words = CountWords(texts, specialTokens);
        var alphabet = ByteLevelAlphabet.All.ToArray().Order().Select(c => c.ToString()).ToList();
        var taken = specialTokens.Where(t => t.Length == 1 && alphabet.Contains(t)).ToArray();
        if (taken.Length > 0)
        {
            throw new ArgumentException($"The special token \"{taken[0]}\" is the name of a byte.", nameof(specialTokens));
        }

        var tokens = new List<string>(specialTokens);
        tokens.AddRange(alphabet);
        var learner = new MergeLearner(words, specialTokens.Count, minimumCount);
        var ids = tokens.Select((token, id) => (token, id)).ToDictionary(p => p.token, p => p.id, StringComparer.Ordinal);
        var merges = new List<(string Left, string Right)>();
        while (tokens.Count < vocabularySize && learner.TryMerge(tokens, ids, out var merge))
        {
            merges.Add(merge);
        }

        return Write(tokens, merges, specialTokens);
    }

    /// <summary>Trains a tokenizer and writes its tokenizer.json.</summary>
    /// <inheritdoc cref="Train"/>
    /// <param name="texts">The texts. Special tokens in them are left out.</param>
    /// <param name="vocabularySize">How many tokens at most, special tokens and the 256 bytes included.</param>
    /// <param name="specialTokens">The special tokens, whose ids are their places.</param>
    /// <param name="file">The file to write.</param>
    /// <param name="minimumCount">Pairs that occur less often do not merge, so that the vocabulary may stay smaller.</param>
    /// <returns>The tokenizer.</returns>
    public static Tokenizer TrainToFile(
        IEnumerable<string> texts, int vocabularySize, IReadOnlyList<string> specialTokens, string file, int minimumCount = 2)
    {
        File.WriteAllText(file, Train(texts, vocabularySize, specialTokens, minimumCount));
        return Tokenizer.Load(file);
    }

    private static Dictionary<string, long> CountWords(IEnumerable<string> texts, IReadOnlyList<string> specialTokens)
    {
        var counts = new Dictionary<string, long>(StringComparer.Ordinal);
        var lookup = counts.GetAlternateLookup<ReadOnlySpan<char>>();
        var matcher = new AddedTokenMatcher(specialTokens.Select((t, i) => (t, new AddedToken(t, i))));
        var pattern = new Cl100kPattern(1);
        foreach (var text in texts)
        {
            var clean = WellFormedText.Of(text);
            foreach (var part in matcher.In(clean))
            {
                if (part.Token is not null)
                {
                    continue;
                }

                var chars = clean[part.Start..part.End];
                for (var at = 0; at < chars.Length;)
                {
                    var end = pattern.End(chars, at);
                    var word = chars[at..end];
                    lookup[word] = lookup.TryGetValue(word, out var count) ? count + 1 : 1;
                    at = end;
                }
            }
        }

        return counts;
    }

    private static string Write(List<string> tokens, List<(string Left, string Right)> merges, IReadOnlyList<string> specialTokens)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            writer.WriteStartObject();
            writer.WriteString("version", "1.0");
            writer.WriteNull("truncation");
            writer.WriteNull("padding");
            WriteAddedTokens(writer, specialTokens);
            writer.WriteNull("normalizer");
            WritePreTokenizer(writer);
            WriteByteLevel(writer, "post_processor");
            WriteByteLevel(writer, "decoder");
            WriteModel(writer, tokens, merges);
            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray()) + "\n";
    }

    private static void WriteAddedTokens(Utf8JsonWriter writer, IReadOnlyList<string> specialTokens)
    {
        writer.WriteStartArray("added_tokens");
        for (var id = 0; id < specialTokens.Count; id++)
        {
            writer.WriteStartObject();
            writer.WriteNumber("id", id);
            writer.WriteString("content", specialTokens[id]);
            writer.WriteBoolean("single_word", false);
            writer.WriteBoolean("lstrip", false);
            writer.WriteBoolean("rstrip", false);
            writer.WriteBoolean("normalized", false);
            writer.WriteBoolean("special", true);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    private static void WritePreTokenizer(Utf8JsonWriter writer)
    {
        writer.WriteStartObject("pre_tokenizer");
        writer.WriteString("type", "Sequence");
        writer.WriteStartArray("pretokenizers");
        writer.WriteStartObject();
        writer.WriteString("type", "Split");
        writer.WriteStartObject("pattern");
        writer.WriteString("Regex", Cl100kPattern.Qwen2);
        writer.WriteEndObject();
        writer.WriteString("behavior", "Isolated");
        writer.WriteBoolean("invert", false);
        writer.WriteEndObject();
        WriteByteLevel(writer, null);
        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    private static void WriteByteLevel(Utf8JsonWriter writer, string? key)
    {
        if (key is null)
        {
            writer.WriteStartObject();
        }
        else
        {
            writer.WriteStartObject(key);
        }

        writer.WriteString("type", "ByteLevel");
        writer.WriteBoolean("add_prefix_space", false);
        writer.WriteBoolean("trim_offsets", false);
        writer.WriteBoolean("use_regex", false);
        writer.WriteEndObject();
    }

    private static void WriteModel(Utf8JsonWriter writer, List<string> tokens, List<(string Left, string Right)> merges)
    {
        writer.WriteStartObject("model");
        writer.WriteString("type", "BPE");
        writer.WriteNull("dropout");
        writer.WriteNull("unk_token");
        writer.WriteNull("continuing_subword_prefix");
        writer.WriteNull("end_of_word_suffix");
        writer.WriteBoolean("fuse_unk", false);
        writer.WriteBoolean("byte_fallback", false);
        writer.WriteBoolean("ignore_merges", false);
        writer.WriteStartObject("vocab");
        for (var id = 0; id < tokens.Count; id++)
        {
            writer.WriteNumber(tokens[id], id);
        }

        writer.WriteEndObject();
        writer.WriteStartArray("merges");
        foreach (var (left, right) in merges)
        {
            // Neither part has a space in it, and this form is read by every version.
            writer.WriteStringValue($"{left} {right}");
        }

        writer.WriteEndArray();
        writer.WriteEndObject();
    }
}
