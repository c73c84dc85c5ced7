using System.Text;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>Files of tokenizer.json of every model kind, changed by their structure; a text is encoded and decoded with what is read.</summary>
internal sealed class TokenizerJsonInputs : FuzzedReader
{
    private static readonly string[] s_seeds =
    [
        """{"version": "1.0", "added_tokens": [{"id": 6, "content": "<s>", "special": true, "lstrip": true, "rstrip": false, "normalized": false, "single_word": false}], "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}, {"type": "Replace", "pattern": {"Regex": "a{2,}"}, "content": "b"}]}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "(?i:'s)|\\p{L}+|\\s+(?!\\S)"}, "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]}, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [6], "tokens": ["<s>"]}}}, "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġa": 4, "bab": 5}, "merges": ["a b", ["Ġ", "a"], ["b", "ab"]]}}""",
        """{"version": "1.0", "added_tokens": [{"id": 0, "content": "<unk>", "special": true}], "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}, "post_processor": null, "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}, "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": [["<unk>", 0], ["▁a", -1.5], ["b", -2], ["ab", -1e2], ["<0x61>", -9]]}}""",
        """{"version": "1.0", "added_tokens": [], "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": {"type": "BertProcessing", "sep": ["b", 2], "cls": ["a", 1]}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}, "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##b": 2}}}""",
        """{"version": "1.0", "added_tokens": [], "normalizer": {"type": "StripAccents"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, {"type": "Punctuation", "behavior": "Removed"}, {"type": "WhitespaceSplit"}, {"type": "Whitespace"}]}, "post_processor": {"type": "RobertaProcessing", "sep": ["b", 2], "cls": ["a", 1], "trim_offsets": true, "add_prefix_space": true}, "decoder": {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true}, "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1, "b": 2}}}""",
    ];

    public override string Name => "tokenizer.json";

    public override byte[] Make(Mutation random) => random.Utf8(JsonMutation.Change(random, random.Of(s_seeds)));

    public override void Read(byte[] input, string folder)
    {
        var path = Path.Combine(folder, "tokenizer.json");
        File.WriteAllBytes(path, input);
        Use(Tokenizer.Load(path));
    }

    public static void Use(Tokenizer tokenizer) =>
        _ = tokenizer.Decode(tokenizer.Encode("The ab’s\n 你好 <s>abab 12 aaaa\u0301", addSpecialTokens: true).AsSpan(), skipSpecialTokens: true);
}

/// <summary>SentencePiece models as trees of protobuf fields, and tiktoken's files of ranks.</summary>
internal sealed class SentencePieceInputs : FuzzedReader
{
    private static readonly byte[] s_ranks = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 60).Select(static i => $"{Convert.ToBase64String([(byte)(32 + i)])} {i}\n")) + "QUI= 60\nQUJD 61\n");

    public override string Name => "tokenizer.model";

    public override byte[] Make(Mutation random)
    {
        if (random.OneIn(5))
        {
            return random.Bytes(s_ranks);
        }

        var pieces = new List<byte[]>();
        foreach (var (text, score, type) in new[] { ("<unk>", 0f, 2), ("<s>", 0f, 3), ("</s>", 0f, 3), ("<0x41>", 0f, 6), ("▁", -3f, 1), ("a", -1f, 1), ("b", -2f, 1), ("ab", -1.5f, 1), ("▁ab", -1.2f, 1), ("<u>", 0f, 4) })
        {
            pieces.Add(Field(random, 1, [.. Field(random, 1, Encoding.UTF8.GetBytes(text)), .. Float(random, 2, score), .. Number(random, 3, (ulong)type)]));
        }

        pieces.Add(Field(random, 2, [.. Number(random, 3, random.OneIn(2) ? 1UL : 2UL), .. Number(random, 40, 0), .. Number(random, 41, 1), .. Number(random, 42, 2)]));
        pieces.Add(Field(random, 3, [.. Field(random, 2, random.OneIn(4) ? [4, 0, 0, 0, 1, 2, 3, 4, 65, 0] : []), .. Number(random, 3, 1), .. Number(random, 4, 0), .. Number(random, 5, 1)]));
        if (random.OneIn(6))
        {
            pieces.RemoveAt(random.Next(pieces.Count));
        }

        if (random.OneIn(6))
        {
            pieces.Insert(random.Next(pieces.Count), random.Of(pieces));
        }

        byte[] bytes = [.. pieces.SelectMany(static p => p)];
        return random.OneIn(4) ? random.Bytes(bytes) : bytes;
    }

    public override void Read(byte[] input, string folder)
    {
        var path = Path.Combine(folder, "tokenizer.model");
        File.WriteAllBytes(path, input);
        TokenizerJsonInputs.Use(Tokenizer.Load(path));
    }

    private static byte[] Field(Mutation random, int field, byte[] content)
    {
        content = random.OneIn(60) && content.Length > 0 ? random.Bytes(content) : content;
        return [.. Varint(((ulong)(random.OneIn(80) ? random.Next(50) : field) << 3) | (random.OneIn(200) ? (ulong)random.Next(8) : 2)), .. Varint(random.OneIn(120) ? random.Extreme() : (ulong)content.Length), .. content];
    }

    private static byte[] Number(Mutation random, int field, ulong value) => [.. Varint((ulong)field << 3), .. Varint(random.OneIn(30) ? random.Extreme() : value)];

    private static byte[] Float(Mutation random, int field, float value) =>
        [.. Varint(((ulong)field << 3) | 5), .. BitConverter.GetBytes(random.OneIn(30) ? random.Of((float[])[float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.MaxValue, -0f]) : value)];

    private static List<byte> Varint(ulong value)
    {
        var bytes = new List<byte>();
        for (; value >= 0x80; value >>= 7)
        {
            bytes.Add((byte)(value | 0x80));
        }

        bytes.Add((byte)value);
        return bytes;
    }
}

/// <summary>tokenizer_config.json beside a good SentencePiece model.</summary>
internal sealed class TokenizerSettingsInputs : FuzzedReader
{
    private const string Good = """{"tokenizer_class": "T5Tokenizer", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "add_bos_token": true, "add_eos_token": false, "add_prefix_space": true, "legacy": false, "extra_ids": 3, "added_tokens_decoder": {"0": {"content": "<unk>", "special": true}, "9999": {"content": "<new>", "special": false, "lstrip": true}}, "additional_special_tokens": ["<x>"], "chat_template": [{"name": "default", "template": "{{ messages }}"}, {"name": "../../x", "template": "a"}]}""";

    private readonly byte[] _model = File.ReadAllBytes(SharedFiles.Require("fixtures", "tokenizers", "own", "pieces-model", "tokenizer.model"));

    public override string Name => "tokenizer_config.json";

    public override int Usual => 300;

    public override byte[] Make(Mutation random) => random.Utf8(JsonMutation.Change(random, Good));

    public override void Read(byte[] input, string folder)
    {
        File.WriteAllBytes(Path.Combine(folder, "tokenizer.model"), _model);
        File.WriteAllBytes(Path.Combine(folder, "tokenizer_config.json"), input);
        TokenizerJsonInputs.Use(Tokenizer.Load(folder));
    }
}
