using System.Buffers.Text;
using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Creates a tokenizer from a tiktoken file: a token in base64 and its rank on each line (openai/tiktoken, <c>load_tiktoken_bpe</c>).
/// The file holds neither the split pattern nor the special tokens; both are known for the models that came with such files.
/// </summary>
internal static class TiktokenLoader
{
    private const int Llama3Ranks = 128_000;
    private const int Qwen2Ranks = 151_643;

    /// <summary>Whether the bytes look like such a file.</summary>
    public static bool Recognizes(ReadOnlySpan<byte> bytes)
    {
        var end = bytes.IndexOf((byte)'\n');
        var line = end < 0 ? bytes : bytes[..end];
        return TryReadLine(line, out _, out _);
    }

    /// <summary>Reads the file.</summary>
    public static (TokenizerParts Parts, TokenizerSettings Settings) Read(string file, byte[] bytes, TokenizerSettings settings)
    {
        var tokens = ReadTokens(file, bytes);
        var vocabulary = new Vocabulary(tokens.Count, bytes.Length);
        foreach (var (token, rank) in tokens)
        {
            if (rank > Vocabulary.LargestIdIn(bytes.Length))
            {
                throw new InvalidDataException($"{file}: the rank {rank} leaves more holes than a file of {bytes.Length} bytes can have.");
            }

            if (vocabulary.TryAdd(Encoding.UTF8.GetBytes(string.Concat(token.Select(ByteLevelAlphabet.CharacterOf))), rank) is { } problem)
            {
                throw new InvalidDataException($"{file}: {problem}.");
            }
        }

        var isLlama3 = tokens.Count == Llama3Ranks && settings.AddedTokens.Count == 0;
        var special = isLlama3 ? Llama3Special() : [];
        var bos = isLlama3 ? special[0].Id : settings.AddedTokens.FirstOrDefault(t => t.Content == settings.BosToken)?.Id;
        TilingPattern pattern = tokens.Count switch
        {
            Qwen2Ranks => new Cl100kPattern(1),
            50_256 => new Gpt2Pattern(),
            _ => new Cl100kPattern(3),
        };
        var parts = new TokenizerParts
        {
            Model = new BpeModel(vocabulary, MakePairs(tokens, vocabulary), new BpeOptions { IgnoreMerges = true }),
            PreTokenizers = [new SplitPreTokenizer(pattern, SplitBehavior.Isolated, invert: false), new ByteLevelPreTokenizer()],
            Decoders = [new ByteLevelDecoder()],
            AddedTokens = AddedTokenReader.WithSettings(special, vocabulary, settings, Path.GetFileName(file)),
            PostProcessor = bos is { } id && settings.AddBosToken != false ? new PostProcessor([id, null], null) : PostProcessor.None,
        };
        return (parts, isLlama3 ? WithLlama3Names(settings) : settings);
    }

    private static List<(byte[] Token, int Rank)> ReadTokens(string file, byte[] bytes)
    {
        var tokens = new List<(byte[], int)>();
        var line = 0;
        foreach (var range in bytes.AsSpan().Split((byte)'\n'))
        {
            line++;
            var text = bytes.AsSpan(range).TrimEnd((byte)'\r');
            if (text.IsEmpty)
            {
                continue;
            }

            tokens.Add(TryReadLine(text, out var token, out var rank)
                ? (token, rank)
                : throw new InvalidDataException($"{file}: line {line} is not a token in base64, a space and a rank."));
        }

        return tokens;
    }

    private static bool TryReadLine(ReadOnlySpan<byte> line, out byte[] token, out int rank)
    {
        token = [];
        rank = 0;
        line = line.TrimEnd((byte)'\r');
        var space = line.IndexOf((byte)' ');
        if (space <= 0 || !int.TryParse(line[(space + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out rank))
        {
            return false;
        }

        token = new byte[Base64.GetMaxDecodedFromUtf8Length(space)];
        if (Base64.DecodeFromUtf8(line[..space], token, out var read, out var written) != System.Buffers.OperationStatus.Done || read != space)
        {
            return false;
        }

        Array.Resize(ref token, written);
        return written > 0;
    }

    /// <summary>Any two neighbours that together are a token merge, those of the smallest rank first: all cuts of a token in two are merges.</summary>
    private static PairTable MakePairs(List<(byte[] Token, int Rank)> tokens, Vocabulary vocabulary)
    {
        var byBytes = new Vocabulary(tokens.Count, tokens.Count * 8);
        foreach (var (token, rank) in tokens)
        {
            _ = byBytes.TryAdd(token, rank);
        }

        var pairs = new PairTable(tokens.Count * 2);
        var ranks = new List<int>(tokens.Count * 2);
        var lengths = tokens.Select(static t => t.Token.Length).ToHashSet();
        foreach (var (token, rank) in tokens)
        {
            foreach (var cut in SentencePieceLoader.CutsOf(token.Length, lengths))
            {
                if (byBytes.Find(token.AsSpan(0, cut)) is >= 0 and var left && byBytes.Find(token.AsSpan(cut)) is >= 0 and var right)
                {
                    pairs.Add(left, right, rank);
                    ranks.Add(rank);
                }
            }
        }

        return pairs.Complete([.. ranks]);
    }

    /// <summary>The special tokens of Llama 3 (meta-llama/llama-models, models/llama3/tokenizer.py).</summary>
    private static List<AddedToken> Llama3Special()
    {
        string[] named =
        [
            "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
            "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
        ];
        return
        [
            .. named.Concat(Enumerable.Range(2, 256 - named.Length).Select(i => $"<|reserved_special_token_{i}|>"))
                .Select((content, i) => new AddedToken(content, Llama3Ranks + i) { Special = true }),
        ];
    }

    private static TokenizerSettings WithLlama3Names(TokenizerSettings settings)
    {
        var special = new Dictionary<string, string>(settings.SpecialTokens);
        _ = special.TryAdd("bos_token", "<|begin_of_text|>");
        _ = special.TryAdd("eos_token", "<|end_of_text|>");
        _ = special.TryAdd("pad_token", "<|finetune_right_pad_id|>");
        return settings with { SpecialTokens = special };
    }
}
