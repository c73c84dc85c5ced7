using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Trains a byte-level BPE tokenizer from texts (Sennrich, Haddow and Birch, 2016, arXiv:1508.07909; byte level after GPT-2): the
/// most frequent pair of neighbouring symbols becomes a token, again and again.
/// </summary>
/// <remarks>
/// Texts are split into words with Qwen 2's pattern, which makes each digit a word of its own. The result depends only on how often words
/// occur, not on the order of the texts: of equally frequent pairs the one with the smaller left id, then the smaller right id, comes
/// first, as in Hugging Face's trainer. Ids: special tokens, then the 256 bytes in the order of the characters that stand for them,
/// then the tokens of the merges.
/// </remarks>
public static class BpeTrainer
{
    private const int Bytes = 256;

    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Trains a tokenizer.</summary>
    /// <param name="texts">The texts. Special tokens in them are left out.</param>
    /// <param name="vocabularySize">Maximum number of tokens, including special tokens and the 256 bytes.</param>
    /// <param name="specialTokens">The special tokens; a token's id is its index.</param>
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
        var tokenizer = new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = new JsonArray([.. specialTokens.Select(static (content, id) => AddedToken(id, content))]),
            ["normalizer"] = null,
            ["pre_tokenizer"] = new JsonObject
            {
                ["type"] = "Sequence",
                ["pretokenizers"] = new JsonArray(
                    new JsonObject { ["type"] = "Split", ["pattern"] = new JsonObject { ["Regex"] = Cl100kPattern.Qwen2 }, ["behavior"] = "Isolated", ["invert"] = false },
                    ByteLevel()),
            },
            ["post_processor"] = ByteLevel(),
            ["decoder"] = ByteLevel(),
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["dropout"] = null,
                ["unk_token"] = null,
                ["continuing_subword_prefix"] = null,
                ["end_of_word_suffix"] = null,
                ["fuse_unk"] = false,
                ["byte_fallback"] = false,
                ["ignore_merges"] = false,
                ["vocab"] = new JsonObject(tokens.Select(static (token, id) => KeyValuePair.Create(token, (JsonNode?)id))),

                // Neither part has a space in it, and this form is read by every version.
                ["merges"] = new JsonArray([.. merges.Select(static merge => (JsonNode)$"{merge.Left} {merge.Right}")]),
            },
        };
        return tokenizer.ToJsonString(s_json) + "\n";
    }

    private static JsonNode AddedToken(int id, string content) => new JsonObject
    {
        ["id"] = id,
        ["content"] = content,
        ["single_word"] = false,
        ["lstrip"] = false,
        ["rstrip"] = false,
        ["normalized"] = false,
        ["special"] = true,
    };

    private static JsonObject ByteLevel() => new() { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["trim_offsets"] = false, ["use_regex"] = false };
}
