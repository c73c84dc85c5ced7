using System.Text.Json;

using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>vocab.json with merges.txt.</summary>
public sealed class VocabAndMergesTests
{
    private const string Vocabulary = """{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}""";

    [Test]
    public void Small_files_give_what_the_tokenizer_json_with_their_merges_gives()
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", "own__bytes-qwen-2.json")));
        var tokenizer = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "own", "vocab-and-merges"));
        var differences = new List<string>();
        foreach (var golden in document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read))
        {
            golden.Compare(tokenizer, decodesWithSpecial: false, differences);
        }

        GoldenCase.ExpectNone(differences);
        Assert.That(tokenizer.IdToToken(tokenizer.EosToken!.Value), Is.EqualTo("<|im_end|>"));
    }

    [Test]
    public void Qwen_2s_files_give_what_Qwen_3s_tokenizer_json_gives()
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", "qwen3__tokenizer.json")));
        var tokenizer = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "qwen2"));
        var differences = new List<string>();
        foreach (var golden in document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read))
        {
            golden.Compare(tokenizer, decodesWithSpecial: false, differences);
        }

        GoldenCase.ExpectNone(differences);
        Assert.That((tokenizer.BosToken, tokenizer.EosToken, tokenizer.PadToken), Is.EqualTo(((int?)null, 151645, 151643)));
    }

    [Test]
    public void GPT_2_is_meant_where_nothing_says_otherwise()
    {
        using var folder = new TestFolder();
        _ = folder.Write("vocab.json", Vocabulary);
        _ = folder.Write("merges.txt", "#version: 0.2\r\na b\r\n");
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That(tokenizer.Encode("abab<|endoftext|>", addSpecialTokens: false), Is.EqualTo(new[] { 2, 2, 3 }));
        Assert.That((tokenizer.BosToken, tokenizer.EosToken, tokenizer.UnknownToken), Is.EqualTo((3, 3, 3)));
        Assert.That(tokenizer.Decode([2, 3, 0], skipSpecialTokens: true), Is.EqualTo("aba"));
    }

    [Test]
    public void A_kind_whose_split_pattern_is_not_known_is_refused()
    {
        using var folder = new TestFolder();
        _ = folder.Write("vocab.json", Vocabulary);
        _ = folder.Write("merges.txt", "a b\n");
        _ = folder.Write("tokenizer_config.json", """{"tokenizer_class": "WhisperTokenizerFast"}""");
        Assert.That(() => Tokenizer.Load(folder.Path), Throws.TypeOf<InvalidDataException>().With.Message.Contains("WhisperTokenizer"));
    }

    [Test]
    public void A_merge_without_its_token_is_named()
    {
        using var folder = new TestFolder();
        _ = folder.Write("vocab.json", Vocabulary);
        var merges = folder.Write("merges.txt", "a b\nb a\n");
        Assert.That(
            () => Tokenizer.Load(folder.Path),
            Throws.TypeOf<InvalidDataException>().With.Message.StartsWith(merges).And.Message.Contains("merge 1").And.Message.Contains("\"ba\""));
    }

    [Test]
    public void Missing_merges_are_reported()
    {
        using var folder = new TestFolder();
        _ = folder.Write("vocab.json", Vocabulary);
        Assert.That(() => Tokenizer.Load(folder.Path), Throws.TypeOf<FileNotFoundException>().With.Message.Contains("merges.txt"));
    }
}
