using System.Text.Json;
using System.Text.RegularExpressions;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Converts a tokenizer.json.</summary>
internal static partial class TokenizerJsonSource
{
    internal static GgufVocabulary Read(JsonElement root, string path, string? sentencePiece, Tokenizer tokenizer)
    {
        var model = root.GetProperty("model");
        var type = Text(model, "type") ?? (model.TryGetProperty("merges", out _) ? "BPE" : null);
        if (type != "BPE")
        {
            throw new InvalidDataException($"{path}: model: llama.cpp does not support tokenizers of type '{type}' for these models, only BPE.");
        }

        return model.TryGetProperty("byte_fallback", out var fallback) && fallback.ValueKind == JsonValueKind.True
            ? WithByteFallback(root, model, sentencePiece, tokenizer)
            : ByteLevel(root, model, path, tokenizer);
    }

    private static GgufVocabulary ByteLevel(JsonElement root, JsonElement model, string path, Tokenizer tokenizer)
    {
        if (root.TryGetProperty("normalizer", out var normalizer) && normalizer.ValueKind != JsonValueKind.Null && Text(normalizer, "type") != "NFC")
        {
            throw new InvalidDataException($"{path}: normalizer: llama.cpp does not support normalizers of byte-level tokenizers.");
        }

        var vocabulary = new GgufVocabulary("gpt2", PreTokenizers.NameOf(root, path)) { Merges = [.. Merges(model).Select(static m => $"{m.Left} {m.Right}")] };
        Fill(vocabulary, root, model, tokenizer, null);
        return vocabulary;
    }

    private static GgufVocabulary WithByteFallback(JsonElement root, JsonElement model, string? sentencePiece, Tokenizer tokenizer)
    {
        var vocabulary = new GgufVocabulary("llama", "default") { AddsSpacePrefix = AddsSpace(tokenizer) };
        Fill(vocabulary, root, model, tokenizer, sentencePiece);
        return vocabulary;
    }

    private static void Fill(GgufVocabulary vocabulary, JsonElement root, JsonElement model, Tokenizer tokenizer, string? sentencePiece)
    {
        var added = root.TryGetProperty("added_tokens", out var list) && list.ValueKind == JsonValueKind.Array
            ? list.EnumerateArray().Select(static t => t.GetProperty("id").GetInt32()).ToHashSet()
            : [];
        var known = model.GetProperty("vocab").EnumerateObject().ToDictionary(static p => p.Value.GetInt32(), static p => p.Name);
        var tokens = Enumerable.Range(0, tokenizer.VocabularySize).Select(id => tokenizer.IdToToken(id)).ToList();
        var merges = vocabulary.Model == "llama" ? MergeScores(model) : [];
        var exact = vocabulary.Model == "llama" ? SentencePieceSource.Scores(sentencePiece, [.. tokens.Select(static t => t ?? "")]) : null;
        for (var id = 0; id < tokens.Count; id++)
        {
            var token = tokens[id];
            var kind = token is null ? VocabularySection.Unused : Kind(id, token, tokenizer, vocabulary.Model == "llama", added.Contains(id) || !known.ContainsKey(id));
            var score = kind != VocabularySection.Normal ? 0 : exact is not null && id < exact.Length ? exact[id] : merges.GetValueOrDefault(token!, -1e9f);
            vocabulary.Add(token ?? $"[PAD{id}]", score, kind);
        }
    }

    private static int Kind(int id, string token, Tokenizer tokenizer, bool bytesAreTokens, bool isAdded) =>
        bytesAreTokens && id == tokenizer.UnknownToken ? VocabularySection.Unknown
        : tokenizer.IsSpecial(id) ? VocabularySection.Control
        : isAdded ? VocabularySection.UserDefined
        : bytesAreTokens && ByteToken().IsMatch(token) ? VocabularySection.Byte
        : VocabularySection.Normal;

    // llama.cpp merges in order of score, highest first: minus the index of the first merge that produces a token gives the same order.
    private static Dictionary<string, float> MergeScores(JsonElement model)
    {
        var scores = new Dictionary<string, float>(StringComparer.Ordinal);
        var place = 0;
        foreach (var (left, right) in Merges(model))
        {
            _ = scores.TryAdd(left + right, -place);
            place++;
        }

        return scores;
    }

    private static IEnumerable<(string Left, string Right)> Merges(JsonElement model)
    {
        foreach (var merge in model.GetProperty("merges").EnumerateArray())
        {
            if (merge.ValueKind == JsonValueKind.Array)
            {
                yield return (merge[0].GetString()!, merge[1].GetString()!);
            }
            else
            {
                var text = merge.GetString()!;
                var space = text.IndexOf(' ', 1);
                yield return (text[..space], text[(space + 1)..]);
            }
        }
    }

    private static bool AddsSpace(Tokenizer tokenizer)
    {
        var ids = tokenizer.Encode("a", addSpecialTokens: false);
        return ids.Length > 0 && tokenizer.IdToToken(ids[0])?.StartsWith('\u2581') == true;
    }

    private static string? Text(JsonElement element, string key) => element.ValueKind == JsonValueKind.Object && element.TryGetProperty(key, out var value) ? value.GetString() : null;

    [GeneratedRegex("^<0x[0-9A-F]{2}>$")]
    private static partial Regex ByteToken();
}
