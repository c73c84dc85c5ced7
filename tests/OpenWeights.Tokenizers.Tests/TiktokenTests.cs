using System.Text.Json;

using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>tiktoken's files.</summary>
public sealed class TiktokenTests
{
    [Test]
    public void Small_ranks_give_what_the_tokenizer_json_with_their_merges_gives()
    {
        var tokenizer = Tokenizer.Load(SharedFiles.Require("fixtures", "tokenizers", "own", "ranks"));
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", "own__bytes-llama-3.json")));
        var differences = new List<string>();
        foreach (var golden in document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read))
        {
            golden.Compare(tokenizer, decodesWithSpecial: false, differences);
        }

        GoldenCase.ExpectNone(differences);
    }

    [Test]
    public void Llama_3s_ranks_give_what_its_tokenizer_json_gives()
    {
        using var folder = new TestFolder();
        File.Copy(SharedFiles.Require("fixtures", "tokenizers", "llama-3", "tokenizer.model"), Path.Combine(folder.Path, "tokenizer.model"));
        var tokenizer = Tokenizer.Load(folder.Path);
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", "llama-3__tokenizer.json")));
        var differences = new List<string>();
        foreach (var golden in document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read))
        {
            golden.Compare(tokenizer, decodesWithSpecial: false, differences);
        }

        GoldenCase.ExpectNone(differences);
        Assert.That((tokenizer.VocabularySize, tokenizer.BosToken, tokenizer.EosToken), Is.EqualTo((128256, 128000, 128001)));
        Assert.That(tokenizer.TokenToId("<|eot_id|>"), Is.EqualTo(128009));
        Assert.That(tokenizer.TokenToId("<|reserved_special_token_246|>"), Is.EqualTo(128255));
    }

    [Test]
    public void Special_tokens_come_from_the_config_where_there_is_one()
    {
        using var folder = new TestFolder();
        File.Copy(SharedFiles.Require("fixtures", "tokenizers", "own", "ranks", "tokenizer.model"), Path.Combine(folder.Path, "tokenizer.model"));
        _ = folder.Write("tokenizer_config.json", """
            {"bos_token": "<|b|>", "added_tokens_decoder": {"1133": {"content": "<|b|>", "special": true}, "1134": {"content": "<|e|>", "special": true}}}
            """);
        var tokenizer = Tokenizer.Load(folder.Path);
        var ids = tokenizer.Encode("hello<|e|>", addSpecialTokens: true);
        Assert.That((ids[0], ids[^1]), Is.EqualTo((1133, 1134)));
        Assert.That(tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: true), Is.EqualTo("hello"));
    }

    [Test]
    public void A_line_that_is_no_token_is_named()
    {
        using var folder = new TestFolder();
        var file = folder.Write("tokenizer.model", "IQ== 0\nIg== 1\n\n!!! 2\n");
        Assert.That(() => Tokenizer.Load(file), Throws.TypeOf<InvalidDataException>().With.Message.EqualTo($"{file}: line 4 is not a token in base64, a space and a rank."));
    }

    [Test]
    public void A_rank_that_two_tokens_have_is_named()
    {
        using var folder = new TestFolder();
        var file = folder.Write("tokenizer.model", "IQ== 0\nIg== 0\n");
        Assert.That(() => Tokenizer.Load(file), Throws.TypeOf<InvalidDataException>().With.Message.Contains("the id 0 belongs to two tokens"));
    }
}
