using System.Text;
using System.Text.Json;

using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>SentencePiece's own files.</summary>
public sealed class SentencePieceTests
{
    [Test]
    public void Llama_2s_model_gives_what_the_tokenizer_json_made_from_it_gives()
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", "tinyllama-1.1b-chat__tokenizer.json")));
        var tokenizer = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "llama-2"));
        var differences = new List<string>();
        foreach (var golden in document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read))
        {
            golden.Compare(tokenizer, decodesWithSpecial: false, differences);
        }

        GoldenCase.ExpectNone(differences);
        Assert.That((tokenizer.BosToken, tokenizer.EosToken, tokenizer.UnknownToken, tokenizer.VocabularySize), Is.EqualTo((1, 2, 0, 32000)));
    }

    [Test]
    public void A_small_model_of_SentencePieces_form_gives_what_the_tokenizer_json_with_its_merges_gives()
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", "own__pieces.json")));
        var tokenizer = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "own", "pieces-model"));
        var differences = new List<string>();
        foreach (var golden in document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read))
        {
            golden.Compare(tokenizer, decodesWithSpecial: false, differences);
        }

        GoldenCase.ExpectNone(differences);
        Assert.That((tokenizer.BosToken, tokenizer.EosToken, tokenizer.UnknownToken), Is.EqualTo((1, 2, 0)));
    }

    [Test]
    public void Llama_2s_model_and_its_tokenizer_json_agree_on_random_texts()
    {
        var model = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "llama-2", "tokenizer.model"));
        var json = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "tinyllama-1.1b-chat", "tokenizer.json"));
        var random = new Random(2);
        for (var i = 0; i < 1000; i++)
        {
            var text = RandomText.Make(random, 12);
            Assert.That(model.EncodeWithOffsets(text, addSpecialTokens: true), Is.EqualTo(json.EncodeWithOffsets(text, addSpecialTokens: true)), () => GoldenCase.Show(text));
        }
    }

    [Test]
    public void T5s_model_gives_what_its_tokenizer_json_gives_but_where_that_strays_from_SentencePiece()
    {
        // tokenizer.json's "Precompiled" looks at graphemes and takes the shortest replacement, SentencePiece the longest;
        // its "WhitespaceSplit" drops U+0085.
        string[] stray = ["\u0085", "Tie\u0302\u0301ng Vie\u0323\u0302t", "e\u0301\u0301\u0301"];
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", "t5-small__tokenizer.json")));
        var tokenizer = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "t5-small", "spiece.model"));
        var differences = new List<string>();
        foreach (var golden in document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read))
        {
            if (!stray.Contains(golden.Text))
            {
                golden.Compare(tokenizer, decodesWithSpecial: false, differences);
            }
        }

        GoldenCase.ExpectNone(differences);
        Assert.That(tokenizer.TokenToId("<extra_id_0>"), Is.EqualTo(32099));
    }

    [TestCase("mistral_instruct_tokenizer_240323.model.v3", "[INST]", 3)]
    [TestCase("mistral_instruct_tokenizer_241114.model.v7", "[SYSTEM_PROMPT]", 17)]
    public void Control_pieces_are_found_in_the_text(string file, string piece, int wanted)
    {
        var tokenizer = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "mistral-common", file));
        var id = tokenizer.TokenToId(piece)!.Value;
        Assert.That(id == wanted || tokenizer.IsSpecial(id), Is.True);
        Assert.That(tokenizer.Encode($"a{piece}b", addSpecialTokens: false).Count(i => i == id), Is.EqualTo(1));
        Assert.That(tokenizer.Decode(tokenizer.Encode($"hello {piece} world", addSpecialTokens: true).AsSpan(), skipSpecialTokens: true), Does.Not.Contain(piece));
    }

    [Test]
    public void A_file_that_is_cut_short_is_refused()
    {
        var bytes = File.ReadAllBytes(SharedFiles.Require("fixtures", "tokenizers", "own", "pieces-model", "tokenizer.model"));
        using var folder = new TestFolder();
        var file = Path.Combine(folder.Path, "tokenizer.model");
        foreach (var length in new[] { 1, 5, 17, 1000, bytes.Length / 2, bytes.Length - 1 })
        {
            File.WriteAllBytes(file, bytes[..length]);
            Assert.That(() => Tokenizer.Load(file), Throws.TypeOf<InvalidDataException>().With.Message.Contains(file), $"{length} bytes");
        }
    }

    [Test]
    public void Without_the_legacy_behaviour_only_the_texts_first_words_get_the_dummy_prefix()
    {
        using var folder = new TestFolder();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), SmallModel(bpe: true));
        var legacy = Tokenizer.Load(folder.Path);
        _ = folder.Write("tokenizer_config.json", """{"legacy": false, "tokenizer_class": "LlamaTokenizer"}""");
        var newer = Tokenizer.Load(folder.Path);
        Assert.That(Tokens(legacy, "ab<s>ab"), Is.EqualTo(new[] { "▁", "ab", "<s>", "▁", "ab" }));
        Assert.That(Tokens(newer, "ab<s>ab"), Is.EqualTo(new[] { "▁", "ab", "<s>", "ab" }));
    }

    [Test]
    public void User_defined_pieces_are_whole_wherever_they_stand()
    {
        using var folder = new TestFolder();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), SmallModel(bpe: true, ("abba", -100f, 4)));
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That(Tokens(tokenizer, "aabbab"), Is.EqualTo(new[] { "▁", "a", "abba", "b" }));
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), SmallModel(bpe: false, ("xy", -100f, 4)));
        Assert.That(Tokens(Tokenizer.Load(folder.Path), "axyb"), Is.EqualTo(new[] { "▁", "a", "xy", "b" }));
    }

    [Test]
    public void Unknown_characters_become_one_unknown_token_a_run()
    {
        using var folder = new TestFolder();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), SmallModel(bpe: true));
        Assert.That(Tokens(Tokenizer.Load(folder.Path), "axyzb"), Is.EqualTo(new[] { "▁", "a", "<unk>", "b" }));
    }

    [Test]
    public void The_config_decides_about_BOS_and_EOS()
    {
        using var folder = new TestFolder();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), SmallModel(bpe: true));
        Assert.That(Tokenizer.Load(folder.Path).Encode("a", addSpecialTokens: true), Is.EqualTo(new[] { 1, 3, 4 }));
        _ = folder.Write("tokenizer_config.json", """{"add_bos_token": false, "add_eos_token": true}""");
        Assert.That(Tokenizer.Load(folder.Path).Encode("a", addSpecialTokens: true), Is.EqualTo(new[] { 3, 4, 2 }));
    }

    private static IEnumerable<string?> Tokens(Tokenizer tokenizer, string text) =>
        tokenizer.Encode(text, addSpecialTokens: false).Select(tokenizer.IdToToken);

    /// <summary>A model file of a few pieces: &lt;unk&gt; &lt;s&gt; &lt;/s&gt; ▁ a b ab and more.</summary>
    private static byte[] SmallModel(bool bpe, params (string Text, float Score, int Type)[] more)
    {
        (string, float, int)[] pieces = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), ("▁", -3, 1), ("a", -4, 1), ("b", -5, 1), ("ab", -2, 1), .. more];
        using var file = new MemoryStream();
        foreach (var (text, score, type) in pieces)
        {
            var bytes = Encoding.UTF8.GetBytes(text);
            byte[] piece = [0x0A, (byte)bytes.Length, .. bytes, 0x15, .. BitConverter.GetBytes(score), 0x18, (byte)type];
            file.Write([0x0A, (byte)piece.Length, .. piece]);
        }

        file.Write([0x12, 0x02, 0x18, (byte)(bpe ? 2 : 1)]);
        file.Write([0x1A, 0x02, 0x20, 0x00]);
        return file.ToArray();
    }
}
